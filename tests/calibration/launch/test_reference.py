"""How exactly the reference is computed: whole, a layer at a time, or less exactly; and what of it is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.check.agreement import NEW_TOKENS, Answers
from calibration.conversion.artifact import LOG
from calibration.conversion.store import ArtifactStore
from calibration.events import ReferenceFailed
from calibration.launch.reference import reference_of
from calibration.launch.session import Session
from calibration.supervision.deadline import Deadline
from tests.calibration.race.recording import Recorder
from tests.calibration.tiny_engines.racing import CELLS, LIMITS, entry, subject

MIB = 1 << 20


def session(folder: Path, **more: Any) -> Session:
    """Of a model in bfloat16; a worker may have 400 MiB."""
    scores = folder / "scores"
    scores.mkdir(exist_ok=True)
    return Session(
        calibration_id="c",
        subject=replace(subject(folder), **{"dtype": "bfloat16", **more}),
        cells=CELLS,
        store=ArtifactStore(folder / "artifacts"),
        folder=scores,
        reporter=Recorder(),
        limits=LIMITS,
        deadline=Deadline(None, lambda: 0.0),
    )


def loads(within: Session) -> int:
    """How often an engine began to load."""
    return (within.folder / "reference.log").read_text().count("loading")


def kept(within: Session) -> list[Path]:
    return [artifact.path for artifact in within.store.list()]


def test_what_fits_is_computed_whole_and_its_rounding_with_it(tmp_path: Path) -> None:
    within = session(tmp_path, parameters=70 * MIB)
    made = reference_of(entry("reference", precision="fp32"))(within)
    assert made is not None
    assert made.precision == "fp32"
    assert made.rounding is not None
    assert loads(within) == 2


def test_what_does_not_fit_is_computed_a_layer_at_a_time_at_once(tmp_path: Path) -> None:
    """400 MiB hold float32 weights of 80.6 million parameters at most."""
    within = session(tmp_path, parameters=81 * MIB)
    made = reference_of(entry("reference", precision="fp32", is_large=True))(within)
    assert made is not None
    assert (made.precision, loads(within)) == ("fp32", 2)


def test_what_was_thought_to_fit_is_then_computed_a_layer_at_a_time(tmp_path: Path) -> None:
    within = session(tmp_path)
    made = reference_of(entry("reference", precision="fp32", is_large=True))(within)
    assert made is not None
    assert (made.precision, loads(within)) == ("fp32", 3)
    [folder] = kept(within)
    assert (folder.parent / LOG).read_text().count("loading") == 3


def test_what_cannot_be_had_in_float32_is_computed_less_exactly_and_kept_as_such(tmp_path: Path) -> None:
    within = session(tmp_path)
    make = reference_of(entry("exact", precision="fp32", load="refuse"), instead=entry("inexact"))
    made = make(within)
    assert made is not None
    assert (made.precision, loads(within)) == ("16-bit", 4)
    assert make(within) == made
    assert loads(within) == 6  # that it cannot be had in float32 is no fact that is kept
    assert within.reporter.kinds() == []  # type: ignore[attr-defined]  # a Recorder's


def test_a_reference_in_16_bits_is_set_beside_the_other_16_bits(tmp_path: Path) -> None:
    for dtype, refuses in (("bfloat16", "load_fp16"), ("float16", "load_bf16")):
        folder = tmp_path / dtype
        folder.mkdir()
        fault: Any = {refuses: "refuse"}
        made = reference_of(entry("inexact", **fault))(session(folder, dtype=dtype))
        assert made is not None
        assert (made.precision, made.rounding) == ("16-bit", None)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "fp32"), ("bfloat16", "16-bit")])
def test_a_reference_in_the_models_dtype_is_as_exact_as_that(dtype: str, precision: str, tmp_path: Path) -> None:
    made = reference_of(entry("reference"))(session(tmp_path, dtype=dtype))
    assert isinstance(made, Answers)
    assert made.precision == precision
    assert made.row_shape == (NEW_TOKENS, 64)


def test_where_nothing_computes_it_the_last_reason_is_told(tmp_path: Path) -> None:
    within = session(tmp_path)
    make = reference_of(entry("exact", precision="fp32", load="refuse"), instead=entry("inexact", load="memory error"))
    assert make(within) is None
    [failed] = within.reporter.of(ReferenceFailed)  # type: ignore[attr-defined]  # a Recorder's
    assert failed.message == "out of memory: MemoryError: no room for the KV cache"
    assert kept(within) == []

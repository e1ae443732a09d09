"""What a calibration would do: cells, candidates, and the errors of a plan that cannot be carried out."""

from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache import Cache
from calibration.errors import IllegalBackend, ModelError, UsageError
from calibration.workload import Workload
from selector.host import HostSpec
from selector.planning import calibrate, plan
from selector.rules import judge

MODEL = "shape:smollm2-135m"


def labels(cells: tuple[Workload, ...]) -> list[str]:
    return [c.label for c in cells]


def test_the_default_cells_bracket_ordinary_use() -> None:
    assert labels(plan(MODEL).cells) == ["pp64:tg32:b1", "pp512:tg32:b1", "pp64:tg32:b4", "pp512:tg32:b4"]


def test_cells_bracket_the_workloads_asked_for() -> None:
    planned = plan(MODEL, workloads=["pp100:tg500:b2", "chat"])
    assert labels(planned.cells) == ["pp100:tg32:b1", "pp608:tg32:b1", "pp100:tg32:b2", "pp608:tg32:b2"]
    assert labels(planned.workloads) == ["pp100:tg500:b2", "pp512:tg128:b1"]


def test_a_short_model_gets_cells_that_it_can_hold() -> None:
    assert all(c.context_tokens <= 1024 for c in plan("shape:gpt2", workloads=["pp4000:tg10:b1"]).cells)


def test_candidates_are_the_legal_variants_that_are_not_left_out() -> None:
    planned = plan(MODEL)
    verdicts = judge(planned.spec, planned.host)
    assert {c.label for c in planned.candidates} == {v.candidate.label for v in verdicts if v.legal and not v.left_out}
    assert all(e.environment["python"] for e in planned.entries)


def test_a_variant_that_is_named_is_planned_alone() -> None:
    assert [c.label for c in plan(MODEL, backends=["transformers:compile"]).candidates] == ["transformers:compile"]


@pytest.mark.parametrize(
    ("backends", "message"),
    [(["nothing"], "unknown backend 'nothing'"), (["transformers:nothing"], "unknown variant 'transformers:nothing'")],
)
def test_unknown_backends_are_usage_errors(backends: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(MODEL, backends=backends)
    assert caught.value.message == message


def test_a_refused_backend_cannot_be_calibrated(tmp_path: Path) -> None:
    here = HostSpec.detect()
    plain = replace(here, devices=(replace(here.device, kind="camb"),))
    with pytest.raises(IllegalBackend, match="transformers:sdpa: needs"):
        calibrate(MODEL, backends=["transformers:sdpa"], cache=tmp_path / "cache.db", host=plain)


def test_a_folder_without_weights_names_the_way_out(tmp_path: Path) -> None:
    shape = plan(MODEL).spec.folder / "config.json"
    (tmp_path / "config.json").write_bytes(shape.read_bytes())
    with pytest.raises(ModelError) as caught, Cache.open(tmp_path / "cache.db") as cache:
        calibrate(str(tmp_path), cache=cache)
    assert caught.value.message == f"{tmp_path} has no weights"
    assert caught.value.mend == f"time its shape: autobackend calibrate {tmp_path} --random-weights"


def test_rounds_are_one_or_more() -> None:
    with pytest.raises(UsageError, match="needs 1 round or more; found 0"):
        calibrate(MODEL, rounds=0)

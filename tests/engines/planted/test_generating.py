"""Errors planted in every backend: each must be found, and no true engine refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Engine, StoppedEarly, Variant
from calibration.check.agreement import Answers, compare
from calibration.check.tolerance import precision_class
from calibration.measurement import Agreement, Candidate, OutputVerdict
from calibration.registry import find
from calibration.rung import Rung
from selector.host.spec import HostSpec
from selector.planning.plan import launch_spec_of
from tests.engines import tiny_models
from tests.engines.planted import planting
from tests.engines.planted.planting import (
    Around,
    EarlyStop,
    FilledUp,
    Mute,
    Plant,
    StaleCache,
    SwappedRows,
    configured,
    permuted,
    without,
)
from tests.engines.tiny_configs import CONFIGS, VOCAB

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

RIGHT, LOSSY, WRONG = OutputVerdict.RIGHT, OutputVerdict.LOSSY, OutputVerdict.WRONG
ENGINES = {
    "transformers": "eager",
    "ctranslate2": "float32",
    "onnxruntime": "fp32",
    "llamacpp": "bf16",
    "openvino": "fp16-sdpa",
}
"""Backend: the variant of it that errors are planted in."""
WINDOWED = {
    "transformers": "mistral-window",
    "onnxruntime": "qwen2-window",
    "llamacpp": "gemma2-theta",
    "openvino": "mistral-window",
}
"""Backend: a model whose sliding window of 16 tokens it honours; CTranslate2 honours none and is refused by a rule."""
ARCHITECTURES = (
    *("llama", "qwen2", "qwen3", "mistral-window", "gemma2", "gemma3", "phi3", "granite", "gpt2", "qwen3-moe"),
    *("olmo2", "cohere2"),
)
EVERYWHERE = ("llama", "qwen3", "gpt2", "granite", "qwen3-moe")
RUNG = Rung(layers=2, of=6)
TRUE = [(b, m) for b in ("llamacpp", "openvino") for m in (*EVERYWHERE, {"llamacpp": "gemma3-period"}.get(b, "gemma3"))]
"""Those that hold 16 bits on a CPU (CTranslate2 and ONNX Runtime compute in float32), on models that they know."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """checkpoint(name): the folder of a bfloat16 model; of `cut NAME` the first two layers of six."""
    root = tmp_path_factory.mktemp("planted")

    def folder(name: str) -> Path:
        if name.startswith("cut "):
            return planting.cut(written(name.removeprefix("cut "), num_hidden_layers=RUNG.of), RUNG)
        return written(name)

    def written(name: str, **more: int) -> Path:
        key = f"{name}-in-bfloat16{''.join(f'-{value}' for value in more.values())}"
        config = {**CONFIGS[name], "torch_dtype": "bfloat16", **more}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiny_models, "CONFIGS", {key: config})
            return tiny_models.write(key, "published", root)

    return folder


@pytest.fixture(scope="session")
def expected(checkpoint: Callable[[str], Path]) -> Callable[[str], Answers]:
    """expected(name): the reference's answers."""
    return cache(lambda name: planting.reference(checkpoint(name)))


def overflows(backend: str, variant: Variant) -> bool:
    return launch_spec_of(Candidate(backend=backend, variant=variant.name), HostSpec.detect()).overflows


Wrap = Callable[[Engine], Engine]
Checks = Callable[..., list[Agreement]]
Check = Callable[..., Agreement]


@pytest.fixture(scope="session")
def checks(checkpoint: Callable[[str], Path], expected: Callable[[str], Answers]) -> Checks:
    """checks(backend, variant, model, plant, arounds): a verdict for each thing around one loaded engine."""

    def judged(
        backend: str, variant: str, model: str, plant: tuple[str, Plant] | None, arounds: Sequence[Wrap]
    ) -> list[Agreement]:
        folder = planting.planted(checkpoint(model), *plant) if plant else checkpoint(model)
        its = find(backend).variant(variant)
        precision = precision_class(its.precision, "bfloat16", lossy=its.lossy, overflows=overflows(backend, its))
        engine = planting.load(find(backend), variant, folder)
        try:
            return [
                compare(expected(model), planting.ask(around(engine), folder / "found.f32", expected(model)), precision)
                for around in arounds
            ]
        finally:
            engine.close()

    return judged


@pytest.fixture(scope="session")
def check(checks: Checks) -> Check:
    """check(backend, variant, model, plant): the verdict on an engine with a true checkpoint or a wrong one."""

    def judged(backend: str, variant: str, model: str, plant: tuple[str, Plant] | None = None) -> Agreement:
        return checks(backend, variant, model, plant, [Around])[0]

    return judged


def told(found: Agreement) -> tuple[OutputVerdict, Agreement]:
    """With the whole verdict, for the reader of a failure."""
    return found.verdict, found


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_no_true_engine_in_16_bits_is_refused(model: str, check: Check) -> None:
    found = check("transformers", "eager", model)
    assert told(found) == (RIGHT, found)


@pytest.mark.parametrize(("backend", "model"), TRUE)
def test_no_other_engine_in_16_bits_is_refused(backend: str, model: str, check: Check) -> None:
    found = check(backend, ENGINES[backend], model)
    assert told(found) == (RIGHT, found)


def muted(around: Wrap) -> Wrap:
    return lambda engine: around(Mute(engine))


@pytest.mark.parametrize("backend", ENGINES)
def test_a_wrong_call_is_found_and_a_true_engine_is_not_refused(backend: str, checks: Checks) -> None:
    wrong = (SwappedRows, StaleCache, FilledUp)
    arounds = [Around, Mute, *wrong, *map(muted, wrong)]
    found = checks(backend, ENGINES[backend], "qwen2", None, arounds)
    assert [f.verdict for f in found] == [RIGHT, RIGHT, *[WRONG] * 6], found


@pytest.mark.parametrize(
    ("backend", "variant"),
    [
        ("ctranslate2", "int8"),
        ("onnxruntime", "int4"),
        ("llamacpp", "q4_0"),
        ("openvino", "int4-pa"),
        ("openvino", "int8-sdpa"),
    ],
)
def test_a_lossy_engine_is_lossy_and_its_wrong_calls_are_found(backend: str, variant: str, checks: Checks) -> None:
    found = checks(backend, variant, "qwen2", None, [Around, Mute, SwappedRows])
    assert [f.verdict for f in found] == [LOSSY, LOSSY, WRONG], found


def test_an_early_stop_is_found(checks: Checks) -> None:
    with pytest.raises(StoppedEarly, match=r"^asked for 8 tokens of each of 1 prompts; got \[7\]$"):
        checks("transformers", "eager", "qwen2", None, [EarlyStop])


PLANTS: dict[str, Plant] = {
    "a permuted weight": permuted("q_proj.weight"),
    "another rope theta": configured(rope_theta=10000.0),
    "a dropped bias": without("q_proj.bias"),
}


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("model", ["qwen2", "cut qwen2"])
def test_a_wrong_model_is_found(model: str, backend: str, name: str, check: Check) -> None:
    found = check(backend, ENGINES[backend], model, (name.replace(" ", "-"), PLANTS[name]))
    assert told(found) == (WRONG, found)
    assert found.detail.startswith("diverges from the reference by ")


@pytest.mark.parametrize("backend", ENGINES)
def test_a_true_engine_of_a_cut_model_is_not_refused(backend: str, check: Check) -> None:
    found = check(backend, ENGINES[backend], "cut qwen2")
    assert told(found) == (RIGHT, found)


@pytest.mark.parametrize(
    # A conversion for llama.cpp takes longest, and a window that is ignored errs more than one that is off by one.
    ("backend", "window"),
    [(backend, window) for backend in WINDOWED for window in (512, 17) if (backend, window) != ("llamacpp", 512)],
)
def test_a_wrong_window_is_found(backend: str, window: int, check: Check) -> None:
    found = check(backend, ENGINES[backend], WINDOWED[backend], (f"window-{window}", configured(sliding_window=window)))
    assert told(found) == (WRONG, found)


@pytest.mark.parametrize("backend", WINDOWED)
def test_a_wrong_window_of_a_cut_model_is_found(backend: str, check: Check) -> None:
    off_by_one = ("window-17", configured(sliding_window=17))
    found = check(backend, ENGINES[backend], f"cut {WINDOWED[backend]}", off_by_one)
    assert told(found) == (WRONG, found)


@pytest.mark.parametrize("kind", ["", "cut "])
@pytest.mark.parametrize("backend", WINDOWED)
def test_a_true_window_is_right(backend: str, kind: str, check: Check) -> None:
    found = check(backend, ENGINES[backend], f"{kind}{WINDOWED[backend]}")
    assert told(found) == (RIGHT, found)


def test_a_wrong_rotation_is_found_in_8_bits(check: Check) -> None:
    found = check("onnxruntime", "int8", "qwen2", ("another-rope-theta", PLANTS["another rope theta"]))
    assert told(found) == (WRONG, found)


def test_a_softcap_that_is_left_out_is_found_by_scores_alone(check: Check, checks: Checks) -> None:
    """CTranslate2 leaves out both of Gemma-2's; no greedy token changes by the final one."""
    capped = ("without-a-softcap", configured(final_logit_softcapping=None))
    found = checks("transformers", "eager", "gemma2", capped, [Around, Mute])
    assert [f.verdict for f in found] == [WRONG, RIGHT], found
    dropped = check("ctranslate2", "float32", "gemma2")
    assert told(dropped) == (WRONG, dropped)


def test_the_true_engine_stays_right_beside_a_wrong_row(check: Check, expected: Any) -> None:
    """One row of one batch is enough."""
    right = expected("qwen2")
    groups = [list(map(list, paths)) for paths in right.tokens]
    groups[2][1][4] = (groups[2][1][4] + 1) % VOCAB
    one = replace(right, tokens=tuple(tuple(map(tuple, paths)) for paths in groups))
    found = compare(right, one, "16-bit")
    assert "token 5 after prompt 1 in a batch of 2" in found.detail

"""TurboMind's rules beside what its own library takes: each row is judged by us and loaded by it, on stub libraries."""

from collections.abc import Callable

import pytest

from calibration.backends.turbomind.adapter import FACTS, TurboMind
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import judge
from tests.lmdeploy.conftest import Checkpoints
from tests.lmdeploy.turbomind.cases import Case, Outcome, run
from tests.lmdeploy.turbomind.format_rows import FORMAT_ROWS
from tests.lmdeploy.turbomind.kind_rows import KIND_ROWS
from tests.lmdeploy.turbomind.quantised_rows import QUANTISED_ROWS
from tests.lmdeploy.turbomind.rows import Row
from tests.lmdeploy.turbomind.shape_rows import LEFT_OUT_ROWS, SHAPE_ROWS

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

EVERY_ROW = (*KIND_ROWS, *FORMAT_ROWS, *SHAPE_ROWS, *LEFT_OUT_ROWS, *QUANTISED_ROWS)
CASES = [(row, capability) for row in EVERY_ROW for capability in row.on]


def named(row: Row, capability: tuple[int, int]) -> str:
    return f"{row.name} @ {capability[0]}.{capability[1]}"


@pytest.fixture(scope="module")
def outcomes(checkpoint: Checkpoints) -> dict[str, Outcome]:
    """What the library made of every case."""
    return run(
        Case(
            name=named(row, capability),
            model_dir=str(checkpoint(row.kind, dtype=row.dtype, quant=row.quant, **row.shape)),
            capability=capability,
            dtype=row.dtype,
            tensor_parallel=row.ways,
            variant=row.variant,
        )
        for row, capability in CASES
    )


@pytest.mark.parametrize(("row", "capability"), CASES, ids=[named(*case) for case in CASES])
def test_rules_and_library_agree(
    row: Row,
    capability: tuple[int, int],
    outcomes: dict[str, Outcome],
    checkpoint: Checkpoints,
    gpu_host: Callable[..., HostSpec],
) -> None:
    model = ModelSpec.read(str(checkpoint(row.kind, dtype=row.dtype, quant=row.quant, **row.shape)))
    backend = TurboMind()
    demand = Demand.of(workload=Workload(prompt_tokens=16, output_tokens=8), tensor_parallel=row.ways)
    verdicts = judge(model, gpu_host(capability, count=row.ways), demand, {backend.name: backend})
    (verdict,) = (v for v in verdicts if v.candidate.variant == row.variant)
    # This host has none of the libraries that `importable` looks for.
    assert [reason.text for reason in verdict.reasons if reason.rule != "importable"] == (
        [row.refused] if row.refused else []
    )
    found = outcomes[named(row, capability)]
    if row.refused and not row.loads:
        assert found.end in ("raised", "aborted"), found
    else:
        assert (found.end, found.tokens) == ("ok", ((5, 5, 5), (5, 5, 5))), found


def test_scales_that_are_never_read_make_a_wrong_model(outcomes: dict[str, Outcome]) -> None:
    unread = outcomes["fp8 tensor @ 8.0"].unread
    assert {name.rsplit(".", 1)[-1] for name in unread} == {"weight_scale", "input_scale"}
    assert outcomes["fp8 @ 8.0"].unread == ()


def test_is_supported_promises_more(outcomes: dict[str, Outcome], checkpoint: Checkpoints) -> None:
    """LMDeploy's own choice takes TurboMind for what TurboMind then refuses, or computes wrong."""
    from lmdeploy.turbomind.supported_models import is_supported

    promised = {
        row.name
        for row, capability in CASES
        if outcomes[named(row, capability)].end != "ok"
        and is_supported(str(checkpoint(row.kind, dtype=row.dtype, quant=row.quant, **row.shape)))
    }
    assert promised == {row.name for row in EVERY_ROW if row.refused and not row.loads} - {"smooth_quant"}


def test_facts_are_the_engines_own_tables() -> None:
    from lmdeploy.turbomind.supported_models import SUPPORTED_ARCHS

    assert FACTS.architectures == frozenset(SUPPORTED_ARCHS)

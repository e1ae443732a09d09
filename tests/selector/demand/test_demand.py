"""A Demand is checked once, goes whole, and knows the command-line words that ask for it."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import NoLegalBackend, NotCalibrated, UsageError
from calibration.measurement import FailureKind
from calibration.workload import DEFAULT, Workload
from selector import explain, select
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.host.spec import HostSpec, Installation
from selector.planning.calibrate import calibrate
from selector.planning.plan import plan
from selector.selection import choose
from tests.selector.answering import CT2, HOST, KEY, MODEL, SDPA, SPEC, demanded
from tests.selector.conftest import A100
from tests.selector.launches import failure, rounds

LONG = Workload(prompt_tokens=1000, output_tokens=100, batch=2)

DEMANDS = [
    Demand(),
    Demand(workloads=(LONG,)),
    Demand(workloads=(DEFAULT, LONG)),
    Demand(objective=Objective.TTFT),
    Demand(ttft_s=0.2),
    Demand(tpot_s=0.03),
    Demand(price_per_hour=1.2),
    Demand(backends=("transformers:compile", "openvino")),
    Demand(allow_lossy=True),
    Demand(max_kl=0.25),
    Demand(trust_remote_code=True),
    Demand(tensor_parallel=2),
    Demand(
        workloads=(LONG,),
        objective=Objective.MEMORY,
        ttft_s=0.25,
        tpot_s=0.0375,
        price_per_hour=12.5,
        backends=(CT2,),
        allow_lossy=True,
        max_kl=0.5,
        trust_remote_code=True,
        tensor_parallel=4,
    ),
]


@pytest.mark.parametrize("demand", DEMANDS)
def test_its_command_asks_for_exactly_it(demand: Demand) -> None:
    """What a mend prints, typed into the command, is the same demand."""
    program, command, model, *options = shlex.split(demand.command("calibrate", "./a model"))
    assert (program, command, model) == ("autobackend", "calibrate", "./a model")
    assert demanded(*options) == demand


def test_its_words_leave_out_what_is_asked_by_default() -> None:
    assert Demand(workloads=(DEFAULT,)).options() == Demand().options() == []
    start = "--workload pp1000:tg100:b2 --objective memory --ttft 0.25 --tpot 0.0375 --price 12.5"
    end = "--backends ctranslate2:float32 --allow-lossy --max-kl 0.5 --trust-remote-code --tensor-parallel 4"
    assert shlex.join(DEMANDS[-1].options()) == f"{start} {end}"


def test_keywords_are_read_as_the_command_reads_them() -> None:
    asked = Demand.of(workload="chat", workloads=["pp1000:tg100:b2"], objective="ttft", backend="ctranslate2")
    assert asked == Demand(workloads=(DEFAULT, LONG), objective=Objective.TTFT, backends=("ctranslate2",))
    assert Demand.of(asked, workload=LONG, backends="transformers") == replace(
        asked, workloads=(LONG,), backends=("transformers",)
    )
    assert Demand.of(None, workload=None, backend=None) == Demand()
    with pytest.raises(TypeError, match="unexpected keyword argument 'alow_lossy'"):
        Demand.of(alow_lossy=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"tensor_parallel": 0}, "needs 1 device or more; found 0"),
        ({"max_kl": 0.0}, "needs a divergence of more than 0 nats; found 0"),
        ({"max_kl": float("nan")}, "needs a divergence of more than 0 nats; found nan"),
        ({"ttft_s": 0.0}, "needs a target of more than 0 s to the first token; found 0"),
        ({"tpot_s": float("nan")}, "needs a target of more than 0 s per output token; found nan"),
        (
            {"tpot_s": 0.1, "workload": "pp64:tg1"},
            "a time per output token needs 2 output tokens or more; found pp64:tg1:b1",
        ),
        ({"price_per_hour": -1.0}, "needs a price of more than 0 per hour; found -1"),
        ({"price_per_hour": float("inf")}, "needs a price of more than 0 per hour; found inf"),
        ({"kv_cache_bits": 0}, "needs a KV cache of 1 bit or more; found 0"),
        ({"backend": "foo"}, "unknown backend 'foo'"),
        ({"backends": ["transformers", "transformers:foo"]}, "unknown variant 'transformers:foo'"),
        ({"objective": "speed"}, "unknown objective 'speed'"),
        ({"workload": "much"}, "unknown workload 'much'"),
    ],
)
@pytest.mark.parametrize("ask", [select, choose, explain, plan, calibrate])
def test_every_function_refuses_what_cannot_be(ask: Any, asked: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    more = {} if ask in {explain, plan} else {"cache": tmp_path / "cache.db"}
    with pytest.raises(UsageError) as error:
        ask(MODEL, host=HOST, **asked, **more)
    assert error.value.message == sentence


def test_a_demand_itself_is_checked() -> None:
    with pytest.raises(UsageError, match="needs 1 device or more; found -1"):
        Demand(tensor_parallel=-1)
    with pytest.raises(UsageError, match="unknown backend 'foo'"):
        explain(MODEL, Demand(backends=("foo",)), host=HOST)


def test_an_answer_is_for_one_workload_and_for_what_is_measured(cache: Cache) -> None:
    with pytest.raises(UsageError, match="an answer is for one workload; found pp512:tg128:b1, pp1000:tg100:b2"):
        select(MODEL, workloads=[DEFAULT, LONG], cache=cache, host=HOST)
    with pytest.raises(UsageError, match="an answer is for one workload; found pp512:tg128:b1, pp1000:tg100:b2"):
        explain(MODEL, workloads=[DEFAULT, LONG], host=HOST)
    for ask in (choose, plan):
        with pytest.raises(UsageError, match="what is measured has a KV cache of 16 bits; found 8 asked for"):
            ask(MODEL, kv_cache_bits=8, host=HOST)
    refused = {r.text for v in explain(MODEL, kv_cache_bits=8, host=HOST).verdicts for r in v.reasons}
    assert "needs a KV cache of 16 bits; found 8 asked for" in refused


def test_a_path_is_a_model_everywhere(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "config.json").write_bytes((SPEC.folder / "config.json").read_bytes())
    names = {choose(tmp_path, cache=cache, host=HOST).model, explain(tmp_path, host=HOST).model}
    assert names | {plan(tmp_path, host=HOST).spec.name} == {str(tmp_path)}


def test_a_refusal_is_explained_for_what_was_asked(cache: Cache) -> None:
    """Without the number of devices `explain` would find backends that run the model."""
    with pytest.raises(NoLegalBackend) as error:
        choose(MODEL, cache=cache, host=HOST, tensor_parallel=2, objective="ttft", ttft_s=1.0, price_per_hour=2.0)
    assert error.value.mend == f"see autobackend explain {MODEL} --tensor-parallel 2"


def test_a_calibration_is_named_for_what_was_asked(cache: Cache) -> None:
    cache.add(failure("transformers:compile", KEY, HOST, kind=FailureKind.TIMED_OUT, message="no answer"))
    forced = choose(MODEL, cache=cache, host=HOST, backend="transformers:compile", objective="memory")
    again = f"autobackend calibrate {MODEL} --objective memory --backends transformers:compile"
    assert forced.warnings == (f"transformers:compile failed here: timed out, no answer. Measure again: {again}",)
    with pytest.raises(NotCalibrated) as error:
        select(MODEL, cache=cache, host=HOST, strict=True, trust_remote_code=True)
    assert error.value.mend == f"measure it: autobackend calibrate {MODEL} --trust-remote-code"


def test_several_backends_may_be_named(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.5,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    chosen = choose(MODEL, cache=cache, host=HOST, backends=["onnxruntime", "transformers"])
    assert (chosen.source, chosen.candidate.label) == ("forced", SDPA)
    with pytest.raises(UsageError, match="unknown backend 'foo'"):
        choose(MODEL, cache=cache, host=HOST, backends=["foo", "transformers"])


def test_explain_tells_of_the_backends_that_are_named() -> None:
    explanation = explain(MODEL, host=HOST, backends=["ctranslate2:float32", "transformers"])
    assert {v.candidate.backend for v in explanation.verdicts} == {"ctranslate2", "transformers"}
    assert [v.candidate.variant for v in explanation.verdicts if v.candidate.backend == "ctranslate2"] == ["float32"]


EVEN = "shape:qwen3-0.6b"
"""A model with heads that two devices share evenly."""


def two_gpus() -> HostSpec:
    """A host on whose two GPUs vllm runs."""
    versions = {"vllm": "0.32.0", "torch": "2.13.0", "transformers": "5.16.0"}
    installation = Installation(python=Path(sys.executable), versions=versions, site_packages=())
    return replace(HOST, devices=(A100, A100), installations={**HOST.installations, "vllm": installation})


def test_a_mend_can_be_satisfied(cache: Cache) -> None:
    """The calibration that a warning names measures on as many devices, and the warning is gone."""
    host = two_gpus()
    unmeasured = choose(EVEN, cache=cache, host=host, tensor_parallel=2, trust_remote_code=True)
    again = f"autobackend calibrate {EVEN} --trust-remote-code --tensor-parallel 2"
    why = "nothing is known of a model and a host like these, so this is the static order"
    assert unmeasured.warnings == (f"{EVEN} was never measured on this host; {why}. Measure it: {again}",)
    label = unmeasured.candidate.label
    _, _, model, *options = shlex.split(again)
    demand = demanded(*options)
    planned = plan(model, demand, host=host)
    assert label in {candidate.label for candidate in planned.candidates}
    cache.add(*rounds(label, planned.identity, host, (1.0,), cells=planned.cells))
    measured = choose(EVEN, cache=cache, host=host, tensor_parallel=2, trust_remote_code=True)
    assert (measured.source, measured.candidate.label, measured.warnings) == ("measured", label, ())
    # On one device nothing was measured.
    assert choose(EVEN, cache=cache, host=host).source == "rules"


def test_the_command_of_a_selection_is_for_what_was_asked(cache: Cache) -> None:
    choice = choose(EVEN, cache=cache, host=two_gpus(), tensor_parallel=2, trust_remote_code=True)
    words = shlex.split(choice.command())
    assert choice.backend == "vllm"
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert "--trust-remote-code" in words
    plain = shlex.split(choose(EVEN, cache=cache, host=two_gpus(), backend="vllm").command())
    assert plain[plain.index("--tensor-parallel-size") + 1] == "1"
    assert "--trust-remote-code" not in plain

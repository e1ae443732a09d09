"""select() with real caches: where an answer comes from, and what it says."""

import json
import math
import warnings
from dataclasses import replace

import pytest

from calibration.backend import Deployment
from calibration.cache.cache import Cache
from calibration.errors import ModelError, NoLegalBackend, NotCalibrated, UsageError
from calibration.registry import all_backends
from calibration.workload import Workload
from selector import SelectionWarning, explain, select
from selector.answer import Source
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.model.spec import ModelSpec
from selector.question import Question
from selector.rules.judge import judge
from selector.selection import choose
from tests.selector.answering import (
    ARM,
    CT2,
    EAGER,
    HOST,
    KEY,
    MODEL,
    SDPA,
    answer,
    labels,
)
from tests.selector.launches import (
    cpu_host,
    measurement,
    rounds,
)

THREE_AGREE = 1.0850 ** math.sqrt(0.6)
"""Where the interval of three launches that agree ends, over their median: 1.085 by the prior, which has six degrees of
freedom, and the launches of two such candidates have four."""


def test_where_nothing_is_known_it_is_the_static_order_with_one_warning(cache: Cache) -> None:
    with pytest.warns(SelectionWarning) as told:
        found = select(MODEL, cache=cache, host=ARM)
    first = next(v for v in explain(MODEL, host=ARM).verdicts if v.legal and not v.left_out)
    assert (found.source, found.candidate, found.ranking, found.tie, found.extrapolated, found.prediction) == (
        "rules",
        first.candidate,
        (),
        (),
        False,
        None,
    )
    assert [str(w.message) for w in told] == [
        (
            "shape:smollm2-135m was never measured on this host; nothing is known of a model and a host like these, so"
            " this is the static order. Measure it: autobackend calibrate shape:smollm2-135m"
        )
    ]
    assert told[0].filename == __file__


def test_uncalibrated_is_an_error_when_strict(cache: Cache) -> None:
    with pytest.raises(NotCalibrated) as error:
        select(MODEL, cache=cache, host=HOST, strict=True, workload="pp64:tg8")
    assert str(error.value) == (
        "shape:smollm2-135m was never measured on this host\n"
        "measure it: autobackend calibrate shape:smollm2-135m --workload pp64:tg8:b1"
    )


def test_the_fastest_of_what_was_measured_here(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (2.0, 2.0, 2.0)), *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)))
    with warnings.catch_warnings(action="error"):
        found = select(MODEL, cache=cache, host=HOST, workload="pp100:tg11:b2")
    # Prefill 10 ms + 2 ms x 200; a step 24 ms, ten of them.
    assert json.loads(json.dumps(found.to_json())) == {
        "model": MODEL,
        "architecture": "LlamaForCausalLM",
        "quant": "none",
        "device": "AMD EPYC 7763 (zen3), 2 cores",
        "candidate": SDPA,
        "backend": "transformers",
        "variant": "sdpa",
        "source": "measured",
        "workload": "pp100:tg11:b2",
        "trace": None,
        "objective": "latency",
        "targets": {"ttft_s": None, "tpot_s": None},
        "price_per_hour": None,
        "tie": [],
        "extrapolated": False,
        "ranking": [
            {
                "candidate": SDPA,
                "ttft_s": pytest.approx(0.410),
                "tpot_s": pytest.approx(0.024),
                "e2e_s": pytest.approx(0.650),
                "output_tps": pytest.approx(22 / 0.650),
                "ci95": [pytest.approx(0.650 / THREE_AGREE, rel=1e-4), pytest.approx(0.650 * THREE_AGREE, rel=1e-4)],
                "n": 3,
                "ranked_by": "pp100:tg11:b2",
                "output": "right",
                "kl": 1e-9,
                "prepare_s": None,
                "artifact_bytes": None,
                "chance": None,
                "cost_per_million_output": None,
                "cost_per_million_total": None,
            },
            {
                "candidate": CT2,
                "ttft_s": pytest.approx(0.820),
                "tpot_s": pytest.approx(0.048),
                "e2e_s": pytest.approx(1.300),
                "output_tps": pytest.approx(22 / 1.300),
                "ci95": [pytest.approx(1.300 / THREE_AGREE, rel=1e-4), pytest.approx(1.300 * THREE_AGREE, rel=1e-4)],
                "n": 3,
                "ranked_by": "pp100:tg11:b2",
                "output": "right",
                "kl": 1e-9,
                "prepare_s": None,
                "artifact_bytes": None,
                "chance": None,
                "cost_per_million_output": None,
                "cost_per_million_total": None,
            },
        ],
        "served": [],
        "rejected": [
            {
                "backend": v.candidate.backend,
                "variant": v.candidate.variant,
                "reasons": [r.text for r in v.reasons] or [v.left_out],
            }
            for v in explain(MODEL, host=HOST, workload="pp100:tg11:b2").verdicts
            if v.reasons or v.left_out
        ],
        "failed": [],
        "stale": [],
        "layers": [],
        "inherited": None,
        "caches": [
            {
                "cache": "own",
                "location": cache.location,
                "launches": 3,
                "host": HOST.identifier,
                "newest": found.measured_at,
                "made_at": None,
            }
        ],
        "prediction": None,
    }


@pytest.mark.parametrize(
    ("objective", "winner"), [("latency", SDPA), ("ttft", CT2), ("throughput", SDPA), ("memory", EAGER)]
)
def test_objectives(cache: Cache, objective: str, winner: str) -> None:
    found = answer(
        cache,
        *rounds(CT2, KEY, HOST, (0.5, 0.5, 0.5), decode=3.0),
        *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)),
        *rounds(EAGER, KEY, HOST, (1.5, 1.5, 1.5), memory=1 << 29),
        objective=objective,
    )
    assert (found.candidate.label, found.objective) == (winner, objective)


def test_within_the_band_the_static_order_decides_and_the_tie_is_said(cache: Cache) -> None:
    found = answer(cache, *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)), *rounds(CT2, KEY, HOST, (1.02, 1.02, 1.02)))
    assert (found.candidate.label, found.tie, labels(found)) == (CT2, (SDPA,), [CT2, SDPA])


def test_what_launches_cannot_tell_apart_is_a_tie_and_the_median_decides(cache: Cache) -> None:
    found = answer(cache, *rounds(CT2, KEY, HOST, (1.0, 1.5, 1.2)), *rounds(SDPA, KEY, HOST, (1.3, 1.0, 1.1)))
    assert (found.candidate.label, found.tie) == (SDPA, (CT2,))


def test_rounds_share_their_drift(cache: Cache) -> None:
    """The machine slowed down by half from round to round: within each, one was always a quarter faster."""
    found = answer(cache, *rounds(CT2, KEY, HOST, (1.25, 1.875, 2.8125)), *rounds(SDPA, KEY, HOST, (1.0, 1.5, 2.25)))
    assert (found.candidate.label, found.tie) == (SDPA, ())


def test_outside_the_measured_cells_the_answer_is_extrapolated(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    inside = choose(MODEL, cache=cache, host=HOST, workload="pp500:tg32:b4")
    outside = choose(MODEL, cache=cache, host=HOST, workload="pp500:tg32:b8")
    assert (inside.extrapolated, outside.extrapolated) == (False, True)


def test_the_launches_that_bracket_the_workload_answer_for_it(cache: Cache) -> None:
    far = [Workload(prompt_tokens=p, output_tokens=32, batch=1) for p in (1000, 1500)]
    found = answer(
        cache,
        *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
        *rounds(SDPA, KEY, HOST, (9.0,), cells=far, calibration="c2"),
        workload="pp100:tg11:b2",
    )
    assert (found.ranking[0].n, found.extrapolated) == (2, False)
    assert found.ranking[0].e2e_s == pytest.approx(0.650)


def test_who_was_timed_around_the_workload_comes_before_who_is_extrapolated(cache: Cache) -> None:
    """A launch that a budget cut short has the cheap cells only."""
    near = [Workload(prompt_tokens=64, output_tokens=32, batch=1)]
    found = answer(
        cache,
        *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
        *rounds(CT2, KEY, HOST, (0.5,), cells=near, calibration="c2"),
        workload="pp500:tg32:b4",
    )
    assert [(r.candidate.label, r.covered) for r in found.ranking] == [(SDPA, True), (CT2, False)]
    assert found.ranking[1].e2e_s < found.ranking[0].e2e_s
    assert not found.extrapolated


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"backend": "foo"}, "unknown backend 'foo'"),
        ({"backend": "transformers:foo"}, "unknown variant 'transformers:foo'"),
        ({"backend": "transformers:"}, "unknown variant 'transformers:'"),
        ({"objective": "speed"}, "unknown objective 'speed'"),
        ({"workload": "much"}, "unknown workload 'much'"),
        ({"tensor_parallel": 0}, "needs 1 device or more; found 0"),
    ],
)
def test_bad_arguments(cache: Cache, asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        select(MODEL, cache=cache, host=HOST, **asked)  # type: ignore[arg-type]
    assert error.value.message == sentence


def test_unknown_model(cache: Cache) -> None:
    with pytest.raises(ModelError):
        select("shape:nope", cache=cache, host=HOST)


def test_no_legal_backend_says_every_reason(cache: Cache) -> None:
    bare = cpu_host(versions={})
    with pytest.raises(NoLegalBackend) as error:
        select(MODEL, cache=cache, host=bare)
    first, *lines = error.value.message.splitlines()
    assert first == f"no backend can run {MODEL} here"
    assert "  transformers: needs transformers" in error.value.message
    assert {line.strip().split(":")[0] for line in lines} == set(all_backends())


def test_another_device_count_has_launches_of_its_own(cache: Cache) -> None:
    """Tensor parallelism needs as many devices: one CPU is refused, and nothing measured on one answers."""
    cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
    with pytest.raises(NoLegalBackend):
        choose(MODEL, cache=cache, host=HOST, tensor_parallel=2)


def test_a_launch_without_decoding_answers_only_for_one_token(cache: Cache) -> None:
    one = Workload(prompt_tokens=64, output_tokens=1)
    launch = measurement(SDPA, KEY, HOST, cells=[one])
    bare = replace(
        launch, cells=tuple(replace(c, samples=tuple(replace(s, tpot_s=None) for s in c.samples)) for c in launch.cells)
    )
    found = answer(cache, bare)
    assert (found.source, found.ranking) == (Source.PREDICTED, ())
    assert choose(MODEL, cache=cache, host=HOST, workload=one).source is Source.MEASURED


@pytest.mark.parametrize("model", ["shape:qwen3-30b-a3b", "shape:qwen2.5-7b", "shape:gpt2", "shape:gemma-3-270m"])
def test_shared_judgements_are_the_exact_ones(model: str, cache: Cache) -> None:
    """Verdicts of rounded workloads stand for those between them only where nothing differs."""
    spec = ModelSpec.read(model)
    for prompt in (1, 63, 64, 65, 500, 513, 900, 1000, 1025, 5000, 40_000):
        for batch in (1, 3, 33):
            demand = Demand.of(workload=Workload(prompt_tokens=prompt, output_tokens=100, batch=batch))
            question = Question(spec=spec, host=HOST, demand=demand, cache=cache)
            shared, exact = DEFAULT.verdicts(question), judge(spec, HOST, demand)
            assert [replace(v, needed_bytes=0) for v in shared] == [replace(v, needed_bytes=0) for v in exact]


def test_command_and_configuration(cache: Cache) -> None:
    found = answer(cache, *rounds(SDPA, KEY, HOST, (1.0,)))
    variant = all_backends()["transformers"].variant("sdpa")
    assert found.command() == all_backends()["transformers"].command(
        variant, Deployment(model=found.spec, place=MODEL, artifact_dir=None, device=HOST.device, demand=found.demand)
    )
    assert isinstance(found.engine_config(), dict)

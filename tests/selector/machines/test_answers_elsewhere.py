"""Answers for a machine that one does not hold: never measured, never taken for this one, never kept."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend, NoLegalBackend, NotCalibrated, UsageError
from selector.answer import Selection, Source
from selector.explanation import explain
from selector.host.spec import HostSpec
from selector.machines.host_file import written
from selector.machines.what_if import what_if
from selector.planning.calibrate import calibrate
from selector.predict.limits.take_probe import take_probe
from selector.selection import choose
from tests.selector.answering import HOST, KEY, SDPA
from tests.selector.launches import rounds

MODEL = "shape:smollm2-135m"
H100 = "host:h100-sxm-80gb"


def described(host: HostSpec, folder: Path) -> HostSpec:
    """A host by its file."""
    file = folder / "host.json"
    file.write_text(json.dumps(written(host, None, packages=False)))
    return what_if(str(file))


def test_what_this_host_measured_does_not_count_as_measured_there(cache: Cache, tmp_path: Path) -> None:
    """Also where the file describes this very host: the launches are then of another host with the same device."""
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    assert choose(MODEL, cache=cache, host=HOST).source is Source.MEASURED
    there = choose(MODEL, cache=cache, host=described(HOST, tmp_path))
    assert (there.source, there.candidate.label) == (Source.TRANSFERRED, SDPA)
    place = f"on {tmp_path}/host.json"
    assert there.notes == (f"{MODEL} was measured on another host with the same device, not {place}",)


def test_an_answer_leaves_nothing_in_the_cache(cache: Cache, tmp_path: Path) -> None:
    before = cache.token()
    choose(MODEL, cache=cache, host=what_if(H100))
    choose(MODEL, cache=cache, host=described(HOST, tmp_path))
    assert (cache.token(), [*cache.all()]) == (before, [])


def test_times_are_predicted_for_a_processor_with_as_many_cores_as_those_that_were_timed(
    cache: Cache, tmp_path: Path
) -> None:
    there = described(HOST, tmp_path)
    selection = choose(MODEL, cache=cache, host=there)
    assert selection.source is Source.PREDICTED
    [sentence] = selection.warnings
    assert sentence.startswith(f"{MODEL} was never measured on {there.place}; by launches of ")
    assert sentence.endswith(f" Make sure: autobackend calibrate {MODEL} (on that machine)")


@pytest.mark.parametrize("machine", [H100, "host:epyc-milan"])
def test_other_machines_have_the_static_order(machine: str, cache: Cache) -> None:
    selection = choose(MODEL, cache=cache, host=what_if(machine))
    verdicts = explain(MODEL, host=what_if(machine)).verdicts
    first = next(v.candidate for v in verdicts if v.legal and not v.left_out)
    assert (selection.source, selection.candidate, selection.prediction) == (Source.RULES, first, None)
    [sentence] = selection.warnings
    assert sentence == (
        f"{MODEL} was never measured on {machine}; nothing is known of a model and a host like these, so this is the"
        f" static order. Measure it: autobackend calibrate {MODEL} (on that machine)"
    )
    assert selection.to_json()["what_if"]["host"] == machine


def test_strict_finds_nothing_measured_there(cache: Cache) -> None:
    with pytest.raises(NotCalibrated, match=f"{MODEL} was never measured on {H100}"):
        choose(MODEL, cache=cache, host=what_if(H100), strict=True)


def test_a_refusal_names_the_machine(cache: Cache) -> None:
    with pytest.raises(NoLegalBackend) as raised:
        choose("shape:qwen3-30b-a3b", cache=cache, host=what_if("host:t4"))
    assert raised.value.message.startswith("no backend can run shape:qwen3-30b-a3b on host:t4\n")
    assert raised.value.mend == "see autobackend explain shape:qwen3-30b-a3b --host host:t4"
    with pytest.raises(IllegalBackend) as forced:
        choose("shape:qwen3-8b", cache=cache, host=what_if("host:l4 x2"), backend="llamacpp:f16")
    assert forced.value.mend == "see autobackend explain shape:qwen3-8b --host 'host:l4 x2'"


def _loaded(choice: Selection) -> object:
    return choice.load()


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (Selection.command, "a command"),
        (Selection.engine_config, "a configuration"),
        (_loaded, "loading an engine"),
    ],
)
def test_an_answer_for_elsewhere_is_not_run_here(ask: Callable[[Selection], object], what: str, cache: Cache) -> None:
    selection = choose(MODEL, cache=cache, host=what_if(H100))
    with pytest.raises(UsageError) as raised:
        ask(selection)
    assert raised.value.message == (
        f"{what} needs the machine itself; found {H100}, of which only a description is here"
    )


def test_nothing_of_it_is_measured(cache: Cache) -> None:
    there = what_if(H100)
    with pytest.raises(UsageError, match="a calibration needs the machine itself"):
        calibrate(MODEL, cache=cache, host=there)
    with pytest.raises(UsageError, match="a probe needs the machine itself"):
        take_probe(there)

"""What answered wrong, or was not checked, as a server: no candidate for a load, or an answer that says so."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend
from calibration.measurement import NOT_AS_SERVED, FailureKind
from selector.screens.select import why
from selector.selection import choose
from tests.selector.answering import CT2, HOST, KEY, MODEL, SDPA, answer, with_versions
from tests.selector.launches import rounds, served, unserved

LOAD = "pp64:tg32:c8"
CALIBRATE = f"autobackend calibrate {MODEL} --workload {LOAD}"


def wrong(label: str, **fields: Any) -> Any:
    """A server that answered wrong."""
    return unserved(
        label, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, **fields, message="token 7 after prompt 2 is 9, which ..."
    )


def test_who_answers_wrong_as_served_is_no_candidate_for_loads_and_to_be_served(cache: Cache) -> None:
    """Its batches are right, and the fastest."""
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)), wrong(CT2))
    of_batch = choose(MODEL, cache=cache, host=HOST)
    assert (of_batch.candidate.label, of_batch.failed) == (CT2, ())
    for asked in ({"workload": LOAD}, {"to_serve": True}, {"workload": "serve", "to_serve": True}):
        chosen = choose(MODEL, cache=cache, host=HOST, **asked)
        assert chosen.candidate.label != CT2
        [verdict] = [one for one in chosen.rejected if one.candidate.label == CT2]
        [reason] = verdict.reasons
        assert reason.text.startswith(
            "needs right output as served; found wrong output as served: token 7 after prompt 2 is 9, which .... Check"
        )
        assert reason.text.endswith(f"--backends {CT2} --again")
        assert "refused:" in "\n".join(why(chosen))


def test_who_is_forced_and_answers_wrong_as_served_is_refused_with_the_reason(cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), wrong(CT2))
    assert choose(MODEL, cache=cache, host=HOST, backend=CT2).candidate.label == CT2
    for asked in ({"workload": LOAD}, {"to_serve": True}):
        with pytest.raises(IllegalBackend, match="needs right output as served; found wrong output as served: token 7"):
            choose(MODEL, cache=cache, host=HOST, backend=CT2, **asked)


def test_a_wrong_answer_of_other_versions_or_of_another_model_forbids_nothing(cache: Cache) -> None:
    launch = wrong(SDPA, environment=with_versions(transformers="5.0.0"))
    chosen = answer(cache, launch, *rounds(SDPA, KEY, HOST, (0.2,)), workload=LOAD)
    assert chosen.candidate.label == SDPA
    other = replace(wrong(SDPA), run_id="f" * 32, identity=replace(KEY, config="0" * 16))
    assert answer(cache, other, workload=LOAD).candidate.label == SDPA


def test_who_was_right_when_it_was_served_again_is_a_candidate(cache: Cache) -> None:
    cache.add(wrong(SDPA), served(SDPA, KEY, HOST, {LOAD: 100.0}, round_=2))
    chosen = choose(MODEL, cache=cache, host=HOST, workload=LOAD)
    assert (chosen.candidate.label, chosen.source) == (SDPA, "measured")
    assert chosen.served[0].to_json()["as_served"] == "right"


def test_an_answer_that_was_not_checked_as_served_says_so(cache: Cache) -> None:
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 100.0}, as_served=NOT_AS_SERVED), workload=LOAD)
    [warning] = chosen.warnings
    assert warning == (
        f"{SDPA} was not checked as served (an older autobackend compared nothing as served)."
        f" Check it: {CALIBRATE} --again"
    )
    assert chosen.served[0].to_json()["as_served"] == "unchecked"

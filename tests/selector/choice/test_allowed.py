"""Who may answer: wrong output and lossy variants only as far as the user allows them, and a backend that he names."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend, NoLegalBackend
from calibration.measurement import FailureKind
from selector import SelectionWarning, select
from selector.answer import Source
from selector.demand.demand import Demand
from selector.rules.judge import judge
from selector.screens.select import why
from selector.selection import choose
from tests.selector.answering import (
    ARM,
    CT2,
    EAGER,
    FIRST,
    HOST,
    KEY,
    MODEL,
    SDPA,
    SPEC,
    all_labels,
    answer,
    labels,
    with_versions,
)
from tests.selector.launches import (
    DAY,
    LOSSY,
    failure,
    rounds,
)


def test_wrong_output_is_never_chosen(cache: Cache) -> None:
    wrong = {"kind": FailureKind.WRONG_OUTPUT, "stage": "check", "message": "diverges"}
    first, *others = all_labels()
    found = answer(cache, *(failure(label, KEY, HOST, **wrong) for label in others), failure(first, KEY, HOST))  # type: ignore[arg-type]
    assert found.candidate.label == first
    with pytest.raises(NoLegalBackend) as error:
        answer(cache, failure(first, KEY, HOST, at=DAY + 3600, **wrong))  # type: ignore[arg-type]
    assert error.value.message.startswith(f"no backend runs {MODEL} right here\n")
    assert f"\n  {first}: wrong output, diverges" in error.value.message


def test_wrong_output_is_used_when_forced_with_a_warning(cache: Cache) -> None:
    cache.add(failure(FIRST, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check", message="diverges"))
    with pytest.warns(SelectionWarning, match=f"{FIRST} failed here: wrong output, diverges"):
        found = select(MODEL, backend=FIRST, cache=cache, host=HOST)
    assert (found.source, found.candidate.label) == ("forced", FIRST)
    # Of a whole backend another variant is taken.
    assert choose(MODEL, backend="transformers", cache=cache, host=HOST).candidate.label == "transformers:eager-fp32"


def test_a_wrong_output_of_other_versions_may_be_right_today(cache: Cache) -> None:
    old = with_versions(torch="2.12.0")
    found = answer(
        cache,
        *(failure(x, KEY, HOST) for x in all_labels() if x != SDPA),
        failure(SDPA, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check", message="diverges", environment=old),
    )
    assert (found.source, found.candidate.label) == (Source.PREDICTED, SDPA)
    assert found.warnings == (
        f"{SDPA} failed here with other versions: wrong output, diverges. Measure again: autobackend calibrate {MODEL}",
    )


def test_lossy_only_when_allowed(cache: Cache) -> None:
    cache.add(*rounds("ctranslate2:int8", KEY, HOST, (0.2, 0.2), agreement=LOSSY), *rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    assert choose(MODEL, cache=cache, host=HOST).candidate.label == SDPA
    assert choose(MODEL, cache=cache, host=HOST, allow_lossy=True).candidate.label == "ctranslate2:int8"
    with pytest.raises(IllegalBackend) as error:
        choose(MODEL, backend="ctranslate2:int8", cache=cache, host=HOST)
    assert error.value.message == f"ctranslate2:int8 cannot run {MODEL}\n  lossy (--allow-lossy)"


def test_lossy_up_to_a_divergence(cache: Cache) -> None:
    cache.add(*rounds("ctranslate2:int8", KEY, HOST, (0.2, 0.2), agreement=LOSSY), *rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    assert LOSSY.kl is not None
    near = choose(MODEL, cache=cache, host=HOST, max_kl=LOSSY.kl)
    assert near.candidate.label == "ctranslate2:int8"
    assert near.to_json()["ranking"][0]["kl"] == LOSSY.kl
    assert [line.rsplit("  ", 1)[1] for line in why(near)[1:3]] == ["lossy (KL 0.012)", "right"]
    # Also where lossy ones are allowed: the bound holds.
    far = choose(MODEL, cache=cache, host=HOST, max_kl=LOSSY.kl / 2, allow_lossy=True)
    assert labels(far) == [SDPA]
    left_out = {v.candidate.label: v.left_out for v in far.left_out}
    assert left_out["ctranslate2:int8"] == f"diverges by {LOSSY.kl:.2g} nats (--max-kl {LOSSY.kl / 2:g})"
    with pytest.raises(IllegalBackend) as error:
        choose(MODEL, backend="ctranslate2:int8", cache=cache, host=HOST, max_kl=LOSSY.kl / 2)
    assert error.value.message.endswith(f"diverges by {LOSSY.kl:.2g} nats (--max-kl {LOSSY.kl / 2:g})")


def test_a_divergence_that_is_not_known_is_not_near(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))
    mute = replace(LOSSY, kl=None)
    for outcomes in ((), rounds("ctranslate2:int8", KEY, HOST, (0.2, 0.2), agreement=mute)):
        cache.add(*outcomes)
        found = choose(MODEL, cache=cache, host=HOST, max_kl=5.0)
        assert found.candidate.label == SDPA
        assert {v.left_out for v in found.left_out if v.candidate.label == "ctranslate2:int8"} == {
            "lossy, and its divergence is not known (--max-kl 5)"
        }
        assert "ctranslate2:int8" not in {c.label for c in found.unmeasured}


def test_forced_takes_the_best_variant_of_the_backend(cache: Cache) -> None:
    found = answer(
        cache,
        *rounds(CT2, KEY, HOST, (0.5, 0.5)),
        *rounds(SDPA, KEY, HOST, (2.0, 2.0)),
        *rounds(EAGER, KEY, HOST, (1.0, 1.0)),
        backend="transformers",
    )
    assert (found.source, found.candidate.label, labels(found)) == (Source.FORCED, EAGER, [CT2, EAGER, SDPA])
    assert found.warnings == ()


def test_forced_without_measurements_is_the_first_variant_where_nothing_is_known(cache: Cache) -> None:
    found = answer(cache, backend="transformers", strict=True, host=ARM)
    first = next(label for label in all_labels(ARM) if label.startswith("transformers:"))
    assert (found.source, found.candidate.label, found.warnings, found.notes) == (Source.FORCED, first, (), ())


def test_a_variant_on_request_runs_when_it_is_named(cache: Cache) -> None:
    assert answer(cache, backend="transformers:compile").candidate.label == "transformers:compile"


def test_forced_and_illegal_is_an_error_with_every_reason(cache: Cache) -> None:
    with pytest.raises(IllegalBackend) as error:
        select(MODEL, backend="turbomind", cache=cache, host=HOST)
    reasons = next(v.reasons for v in judge(SPEC, HOST, Demand()) if v.candidate.backend == "turbomind")
    assert len(reasons) >= 2
    assert error.value.message == "\n".join([f"turbomind cannot run {MODEL}", *(f"  {r.text}" for r in reasons)])
    assert error.value.mend == f"see autobackend explain {MODEL}"

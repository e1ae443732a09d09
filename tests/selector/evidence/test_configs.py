"""Two configs of one shape: their times are shared; what is right, and what fails, is not."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.errors import NoLegalBackend, NotCalibrated
from calibration.measurement import Agreement, FailureKind, Outcome, OutputVerdict
from selector import SelectionWarning, select
from selector.answer import Selection, Source
from selector.evidence.evidence import evidence
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from selector.screens.select import why
from selector.selection import choose
from tests.selector.answering import CT2, EAGER, HOST, labels, with_versions
from tests.selector.launches import DAY, LOSSY, check, failure, measurement, rounds
from tests.selector.twins import TWINS, write

FAST, SLOW = EAGER, CT2
DATA = Path(__file__).parents[2] / "data"
OLD = with_versions(torch="2.12.0")


class Twins:
    """Two models of one shape; the second is asked about."""

    def __init__(self, folder: Path, cache: Cache, name: str) -> None:
        configs = TWINS[name]
        self.models = [write(folder / f"{name}-{i}", config) for i, config in enumerate(configs)]
        self.first, self.second = (identity(ModelSpec.read(model), HOST) for model in self.models)
        self.cache = cache

    def answer(self, *outcomes: Outcome, **asked: object) -> Selection:
        self.cache.add(*outcomes)
        return choose(self.models[1], cache=self.cache, host=HOST, **asked)  # type: ignore[arg-type]

    def unchecked(self, pick: str, origin: str = "timed on another model of this shape") -> str:
        second = self.models[1]
        sentence = f"{pick} was {origin}; its output is unchecked for {second}."
        return f"{sentence} Check it: autobackend calibrate {second}"


@pytest.fixture(params=TWINS)
def twins(request: pytest.FixtureRequest, tmp_path: Path, cache: Cache) -> Twins:
    return Twins(tmp_path, cache, request.param)


@pytest.fixture
def gemmas(tmp_path: Path, cache: Cache) -> Twins:
    return Twins(tmp_path, cache, "gemma2-tied-or-not")


def outputs(selection: Selection) -> dict[str, OutputVerdict]:
    return {r.candidate.label: r.agreement.verdict for r in selection.ranking}


def test_twins_are_told_apart_by_their_config_alone(twins: Twins) -> None:
    assert twins.first != twins.second
    assert replace(twins.first, config=twins.second.config) == twins.second
    assert twins.first.shape == twins.second.shape


def test_times_are_shared_and_the_output_is_unchecked(twins: Twins) -> None:
    found = twins.answer(*rounds(FAST, twins.first, HOST, (1.0, 1.0)))
    assert (found.source, found.candidate.label) == (Source.MEASURED, FAST)
    assert outputs(found) == {FAST: OutputVerdict.UNCHECKED}
    assert found.ranking[0].agreement.detail == "timed on another model of this shape"
    assert found.warnings == (twins.unchecked(FAST),)


def test_a_failure_of_the_twin_is_not_told(twins: Twins) -> None:
    wrong = failure(FAST, twins.first, HOST, kind=FailureKind.WRONG_OUTPUT, message="prompt 3 differs")
    found = twins.answer(wrong)
    assert (found.failed, labels(found)) == ((), [])
    assert FAST in [c.label for c in found.unmeasured]
    of_the_first = choose(twins.models[0], cache=twins.cache, host=HOST)
    assert of_the_first.failed == (wrong,)


def test_a_failure_of_this_config_counts_whatever_times_the_twin_left(gemmas: Twins) -> None:
    wrong = failure(FAST, gemmas.second, HOST, kind=FailureKind.WRONG_OUTPUT, message="prompt 3 differs")
    times = [
        *rounds(FAST, gemmas.first, HOST, (1.0,), at=DAY + 3600),
        *rounds(SLOW, gemmas.first, HOST, (3.0,), at=DAY + 3600),
    ]
    found = gemmas.answer(wrong, *times)
    assert (found.candidate.label, labels(found), found.failed) == (SLOW, [SLOW], (wrong,))


def test_a_failure_of_this_config_with_other_versions_counts_too(gemmas: Twins) -> None:
    crash = failure(FAST, gemmas.second, HOST, environment=OLD)
    found = gemmas.answer(crash, *rounds(FAST, gemmas.first, HOST, (1.0,)), *rounds(SLOW, gemmas.first, HOST, (3.0,)))
    assert (found.candidate.label, labels(found), found.failed) == (SLOW, [SLOW], (crash,))
    assert {c.label for c in found.unmeasured}.isdisjoint({FAST, SLOW})


def test_a_check_of_this_config_makes_it_right(gemmas: Twins) -> None:
    found = gemmas.answer(
        *rounds(FAST, gemmas.first, HOST, (1.0, 1.0)),
        *rounds(SLOW, gemmas.first, HOST, (3.0, 3.0)),
        check(FAST, gemmas.second, HOST),
    )
    assert outputs(found) == {FAST: OutputVerdict.RIGHT, SLOW: OutputVerdict.UNCHECKED}
    assert (found.source, found.warnings, found.ranking[0].n) == (Source.MEASURED, (), 2)


def test_a_check_alone_gives_no_times(gemmas: Twins) -> None:
    found = gemmas.answer(check(FAST, gemmas.second, HOST))
    assert (found.source, found.ranking) == (Source.PREDICTED, ())
    found = gemmas.answer(*rounds(SLOW, gemmas.first, HOST, (1.0,)))
    assert (labels(found), [c.label for c in found.unmeasured]) == ([SLOW], [FAST])


def test_a_check_that_failed_after_one_that_was_right_takes_the_candidate_out(gemmas: Twins) -> None:
    found = gemmas.answer(
        *rounds(FAST, gemmas.first, HOST, (1.0,)),
        *rounds(SLOW, gemmas.first, HOST, (2.0,)),
        check(FAST, gemmas.second, HOST),
        failure(FAST, gemmas.second, HOST, at=DAY + 3600),
    )
    assert (labels(found), [f.candidate.label for f in found.failed]) == ([SLOW], [FAST])


def test_a_check_with_other_versions_says_nothing_of_todays(gemmas: Twins) -> None:
    found = gemmas.answer(
        check(FAST, gemmas.second, HOST, environment=OLD), *rounds(FAST, gemmas.first, HOST, (1.0,), at=DAY + 3600)
    )
    assert found.source is Source.MEASURED
    origin = "timed on another model of this shape, and checked with other versions only"
    assert found.warnings == (gemmas.unchecked(FAST, origin),)


def test_stale_times_are_told_with_the_verdict_of_their_versions_or_of_todays(gemmas: Twins) -> None:
    stale = rounds(FAST, gemmas.first, HOST, (1.0,), environment=OLD)
    assert outputs(gemmas.answer(*stale)) == {FAST: OutputVerdict.UNCHECKED}
    then = gemmas.answer(check(FAST, gemmas.second, HOST, environment=OLD, agreement=LOSSY))
    assert (then.source, outputs(then)) == (Source.STALE, {FAST: OutputVerdict.LOSSY})
    now = gemmas.answer(check(FAST, gemmas.second, HOST, at=DAY + 3600))
    assert (now.source, outputs(now)) == (Source.STALE, {FAST: OutputVerdict.RIGHT})


def test_stale_and_unchecked_says_both(gemmas: Twins) -> None:
    found = gemmas.answer(*rounds(FAST, gemmas.first, HOST, (1.0,), environment=OLD))
    second = gemmas.models[1]
    versions = f"{FAST} was measured with other versions (torch 2.12.0 -> 2.13.0)."
    assert found.warnings == (
        f"{versions} Measure again: autobackend calibrate {second}",
        gemmas.unchecked(FAST),
    )


def test_a_launch_without_a_reference_does_not_hide_an_earlier_verdict(gemmas: Twins) -> None:
    no_reference = Agreement(verdict=OutputVerdict.UNCHECKED, detail="no reference could be computed here")
    blind = measurement(FAST, gemmas.second, HOST, agreement=no_reference, at=DAY + 3600)
    alone = gemmas.answer(blind)
    assert (alone.ranking[0].agreement, alone.warnings) == (no_reference, ())
    assert outputs(gemmas.answer(check(FAST, gemmas.second, HOST))) == {FAST: OutputVerdict.RIGHT}


def test_launches_from_before_configs_were_kept_give_times_alone(gemmas: Twins) -> None:
    unknown = replace(gemmas.second, config="")
    found = gemmas.answer(
        *rounds(FAST, unknown, HOST, (1.0,)),
        *rounds(SLOW, unknown, HOST, (2.0,)),
        failure(SLOW, unknown, HOST, round_=2),
    )
    assert outputs(found) == {FAST: OutputVerdict.UNCHECKED, SLOW: OutputVerdict.UNCHECKED}
    assert found.failed == ()
    origin = "timed by an older autobackend, which did not keep the config it checked"
    assert found.warnings == (gemmas.unchecked(FAST, origin),)
    found = gemmas.answer(*rounds(FAST, gemmas.first, HOST, (1.0,), calibration="c2"))
    assert found.warnings == (gemmas.unchecked(FAST),)


@pytest.mark.parametrize(
    ("told_of", "kl", "reason"),
    [
        ("first", 0.001, "lossy, and its divergence is not known (--max-kl 0.01)"),
        ("second", 0.001, ""),
        ("second", 0.02, "diverges by 0.02 nats (--max-kl 0.01)"),
    ],
)
def test_max_kl_takes_the_divergence_of_this_config(gemmas: Twins, told_of: str, kl: float, reason: str) -> None:
    lossy = "ctranslate2:int8"
    agreement = replace(LOSSY, kl=kl)
    found = gemmas.answer(
        *rounds(lossy, gemmas.first, HOST, (0.5,)),
        check(lossy, getattr(gemmas, told_of), HOST, agreement=agreement, at=DAY + 60),
        *rounds(FAST, gemmas.first, HOST, (1.0,)),
        max_kl=0.01,
    )
    (verdict,) = [v for v in found.verdicts if v.candidate.label == lossy]
    assert verdict.left_out == reason


def test_the_warning_is_a_selection_warning_and_strict_is_content_with_times(gemmas: Twins) -> None:
    with pytest.raises(NotCalibrated):
        select(gemmas.models[1], cache=gemmas.cache, host=HOST, strict=True)
    gemmas.cache.add(*rounds(FAST, gemmas.first, HOST, (1.0,)))
    with pytest.warns(SelectionWarning) as caught:
        found = select(gemmas.models[1], cache=gemmas.cache, host=HOST, strict=True)
    assert [str(w.message) for w in caught] == [gemmas.unchecked(FAST)]
    assert found.to_json()["ranking"][0]["output"] == "unchecked"


def test_why_shows_the_output_where_one_is_unchecked(gemmas: Twins) -> None:
    def ranked(selection: Selection) -> list[str]:
        return [line.split()[-1] for line in why(selection) if line.startswith(("  transformers:", "  ctranslate2:"))]

    assert ranked(gemmas.answer(*rounds(FAST, gemmas.second, HOST, (1.0,)))) == ["ms"]
    assert ranked(gemmas.answer(*rounds(SLOW, gemmas.first, HOST, (3.0,)))) == ["right", "unchecked"]
    assert ranked(gemmas.answer(check(SLOW, gemmas.second, HOST))) == ["ms", "ms"]


def test_what_was_right_elsewhere_is_unchecked_here(gemmas: Twins) -> None:
    elsewhere = replace(gemmas.first, host="b" * 12)
    found = gemmas.answer(*rounds(FAST, elsewhere, HOST, (1.0,)))
    assert (found.source, outputs(found)) == (Source.TRANSFERRED, {FAST: OutputVerdict.UNCHECKED})
    assert found.ranking[0].agreement.detail == "measured on another model"
    own = replace(gemmas.second, host="b" * 12)
    found = gemmas.answer(*rounds(FAST, own, HOST, (1.0,)))
    assert (found.source, outputs(found)) == (Source.TRANSFERRED, {FAST: OutputVerdict.RIGHT})


def test_when_all_answered_wrong_it_is_said(gemmas: Twins) -> None:
    every = [c.label for c in gemmas.answer().unmeasured]
    wrongs = [failure(label, gemmas.second, HOST, kind=FailureKind.WRONG_OUTPUT) for label in every]
    times = [launch for label in every for launch in rounds(label, gemmas.first, HOST, (1.0,))]
    with pytest.raises(NoLegalBackend, match="no backend runs .* right here"):
        gemmas.answer(*wrongs, *times)


def test_a_cache_written_before_configs_were_kept_answers_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DATA / "caches" / "version-0001.sql").read_text(encoding="utf-8"))
    device = replace(HOST.device, name="AMD EPYC (zen3), 2 cores")
    host = replace(HOST, identifier="a9a852565440", devices=(device,))
    model = "shape:smollm2-135m"
    with Cache.open(path) as cache:
        found = choose(model, cache=cache, host=host)
        key = identity(ModelSpec.read(model), host)
        today = {o.candidate.backend: o.environment for o in cache.all()}
        known = evidence(cache, key, today)
    assert (found.source, found.candidate.label) == (Source.STALE, CT2)
    assert outputs(found) == {r.candidate.label: OutputVerdict.UNCHECKED for r in found.ranking}
    assert found.warnings[1] == (
        f"{CT2} was timed by an older autobackend, which did not keep the config it checked;"
        f" its output is unchecked for {model}. Check it: autobackend calibrate {model}"
    )
    # With the versions of then as today's.
    assert (len(known.measured), dict(known.stale), dict(known.failed)) == (18, {}, {})
    assert known.unchecked.keys() == known.measured.keys()

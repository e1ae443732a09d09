"""Which launches of other models and hosts come first where none of this model's is there, and which count at all."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import Agreement, Identity, Measurement, OutputVerdict
from selector.context import DEFAULT
from selector.evidence.evidence import elsewhere, evidence
from tests.selector.answering import CT2, EAGER, HOST, KEY, SDPA, with_versions
from tests.selector.launches import DAY, RIGHT, check, failure, measurement, other_size, rounds

HOUR = 3600.0


def models(cache: Cache, *launches: Measurement) -> list[str]:
    """Names of the models whose launches may be transferred, the nearest first."""
    cache.add(*launches)
    return [other.model for other in elsewhere(cache, KEY, DEFAULT.environments(HOST))]


def launches_of(model: str, identity: Identity, candidates: int = 1, at: float = DAY) -> list[Measurement]:
    labels = (SDPA, EAGER, CT2)[:candidates]
    return [measurement(label, identity, HOST, model=model, at=at) for label in labels]


def test_the_nearest_come_first(cache: Cache) -> None:
    """This model on another host, then what this host launched: the most candidates, the newest; then other hosts."""
    there = "b" * 12
    assert models(
        cache,
        *launches_of("another size there", replace(other_size(KEY, "1" * 12), host=there), 3, DAY + 9 * HOUR),
        *launches_of("one candidate, old", other_size(KEY, "2" * 12), 1, DAY),
        *launches_of("one candidate, new", other_size(KEY, "3" * 12), 1, DAY + HOUR),
        *launches_of("two candidates", other_size(KEY, "4" * 12), 2, DAY - HOUR),
        *launches_of("a twin there", replace(KEY, config="5" * 12, host=there), 3, DAY + 9 * HOUR),
        *launches_of("this model there", replace(KEY, host=there), 1, DAY - 9 * HOUR),
    ) == [
        "this model there",
        "a twin there",
        "two candidates",
        "one candidate, new",
        "one candidate, old",
        "another size there",
    ]


def test_a_model_is_named_as_its_newest_launch_named_it(cache: Cache) -> None:
    size = other_size(KEY)
    cache.add(
        *launches_of("its old name", size, at=DAY),
        *launches_of("its new name", size, at=DAY + HOUR),
        *launches_of("its first name", size, at=DAY - HOUR),
    )
    (other,) = elsewhere(cache, KEY, DEFAULT.environments(HOST))
    assert (other.model, other.newest, other.identity) == ("its new name", DAY + HOUR + 60, size)
    assert [len(record.launches) for record in other.records.values()] == [3]


def test_what_only_failed_there_is_nothing_to_transfer(cache: Cache) -> None:
    cache.add(failure(SDPA, other_size(KEY), HOST))
    assert elsewhere(cache, KEY, DEFAULT.environments(HOST)) == ()


def without_times(launch: Measurement) -> Measurement:
    """As an import may hold it."""
    return replace(
        launch,
        cells=tuple(
            replace(cell, samples=tuple(replace(sample, ttft_s=0.0) for sample in cell.samples))
            for cell in launch.cells
        ),
    )


def test_a_launch_without_times_counts_for_nothing(cache: Cache) -> None:
    first, second, third = rounds(SDPA, KEY, HOST, (1.0, 1.1, 1.2))
    cache.add(first, without_times(second), third, without_times(measurement(CT2, KEY, HOST)))
    measured = evidence(cache, KEY, DEFAULT.environments(HOST)).measured
    assert {label: [launch.round for launch in record.launches] for label, record in measured.items()} == {SDPA: [1, 3]}
    assert measured[SDPA].last == third


def test_launches_are_taken_as_they_were(cache: Cache) -> None:
    first, second = rounds(SDPA, KEY, HOST, (1.0, 1.1), memory=3000)
    second = replace(second, gpu_memory_bytes=2000)
    cache.add(first, second)
    record = evidence(cache, KEY, DEFAULT.environments(HOST)).measured[SDPA]
    assert [
        (launch.turn, launch.started_at, launch.memory_bytes, launch.cells) for launch in record.launches
    ] == [
        (("c1", 1), DAY + 60, 3000, tuple(cell.workload for cell in first.cells)),
        (("c1", 2), DAY + 120, 2000, tuple(cell.workload for cell in first.cells)),
    ]  # fmt: skip
    # One object for all launches with the same cells: what it brackets is looked at once.
    assert record.launches[0].cells is record.launches[1].cells


@pytest.mark.parametrize("newest_fails", [True, False])
def test_the_newest_launch_says_whether_a_candidate_failed(cache: Cache, newest_fails: bool) -> None:
    fails_at, runs_at = (DAY + HOUR, DAY) if newest_fails else (DAY, DAY + HOUR)
    cache.add(failure(SDPA, KEY, HOST, at=fails_at), measurement(SDPA, KEY, HOST, at=runs_at))
    found = evidence(cache, KEY, DEFAULT.environments(HOST))
    assert (set(found.failed), set(found.measured), found.outdated) == (
        ({SDPA}, set(), frozenset()) if newest_fails else (set(), {SDPA}, frozenset())
    )


def test_of_outdated_launches_those_count_that_ran_with_what_the_newest_ran_with(cache: Cache) -> None:
    cache.add(
        *rounds(SDPA, KEY, HOST, (9.0,), environment=with_versions(torch="2.10.0"), at=DAY),
        *rounds(SDPA, KEY, HOST, (1.0, 1.1), environment=with_versions(torch="2.11.0"), at=DAY + HOUR),
        failure(CT2, KEY, HOST, environment={"ctranslate2": "4.0.0"}),
    )
    found = evidence(cache, KEY, DEFAULT.environments(HOST))
    assert (found.measured, found.stale[SDPA].differences) == ({}, ("torch 2.11.0 -> 2.13.0",))
    assert [launch.round for launch in found.stale[SDPA].launches] == [1, 2]
    assert (set(found.failed), found.outdated) == ({CT2}, frozenset({CT2}))


def test_evidence_tells_of_what_was_measured_is_stale_or_failed(cache: Cache) -> None:
    cache.add(
        measurement(SDPA, KEY, HOST),
        *rounds(EAGER, KEY, HOST, (1.0,), environment=with_versions(torch="2.11.0")),
        failure(CT2, KEY, HOST),
    )
    found = evidence(cache, KEY, DEFAULT.environments(HOST))
    labels = (SDPA, EAGER, CT2, "llamacpp:f16")
    assert [found.tells_of(label) for label in labels] == [True, True, True, False]


def test_what_was_right_for_another_model_is_unchecked_for_this_one(cache: Cache) -> None:
    cache.add(measurement(SDPA, other_size(KEY), HOST), measurement(SDPA, replace(KEY, host="b" * 12), HOST))
    this_model, other = elsewhere(cache, KEY, DEFAULT.environments(HOST))
    assert this_model.records[SDPA].agreement == RIGHT
    assert other.records[SDPA].agreement == Agreement(
        verdict=OutputVerdict.UNCHECKED, detail="measured on another model"
    )


def test_candidates_after_one_that_failed_and_one_that_was_only_checked_count(cache: Cache) -> None:
    cache.add(
        failure(SDPA, KEY, HOST, at=DAY - 2 * HOUR),
        check(EAGER, KEY, HOST, at=DAY - HOUR),
        measurement(CT2, KEY, HOST),
    )
    found = evidence(cache, KEY, DEFAULT.environments(HOST))
    assert (set(found.failed), set(found.measured), set(found.stale)) == ({SDPA}, {CT2}, set())


@pytest.mark.parametrize(
    ("configs", "origin"),
    [
        (("e" * 16, "f" * 16), "timed on another model of this shape"),
        (("e" * 16, ""), "timed on another model of this shape"),
        (("", ""), "timed by an older autobackend, which did not keep the config it checked"),
    ],
)
def test_times_of_other_configs_say_where_they_are_from(cache: Cache, configs: tuple[str, ...], origin: str) -> None:
    cache.add(
        *(
            measurement(SDPA, replace(KEY, config=config), HOST, round_=number)
            for number, config in enumerate(configs, start=1)
        )
    )
    assert evidence(cache, KEY, DEFAULT.environments(HOST)).unchecked == {SDPA: origin}


def test_launches_on_a_few_layers_are_another_depths(cache: Cache) -> None:
    """They are found when their depth is asked for; their times are none of a whole model, this one's or another's."""
    cut = replace(KEY, cut="3/30")
    cache.add(
        measurement(SDPA, cut, HOST, slow=0.1),
        failure(CT2, cut, HOST),
        measurement(EAGER, replace(other_size(KEY), cut="3/30"), HOST, model="another, cut"),
        measurement(EAGER, KEY, HOST),
    )
    environments = DEFAULT.environments(HOST)
    whole, shallow = evidence(cache, KEY, environments), evidence(cache, cut, environments)
    assert (set(whole.measured), set(whole.failed), set(whole.layers)) == ({EAGER}, {CT2}, {SDPA})
    assert (set(shallow.measured), set(shallow.failed), set(shallow.layers)) == ({SDPA}, {CT2}, set())
    assert elsewhere(cache, KEY, environments) == ()
    assert [other.model for other in elsewhere(cache, cut, environments)] == ["another, cut"]

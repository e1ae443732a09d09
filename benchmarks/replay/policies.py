"""The policies that are replayed: what each launches, what that takes, and what it picks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.replay.recorded import Recorded, launch_s
from calibration.launch.timing import expected_s
from calibration.measurement import Cell
from calibration.race.ladder.beliefs import Beliefs, Noise, Observation, learned
from calibration.race.ladder.position import Ended, Position, round_of
from calibration.rung import Rung
from calibration.workload import Workload

LOAD_S = 5.0
"""Of a launch, before it was made."""
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a policy did."""

    picks: Mapping[tuple[str, Workload], str]
    """Class of precision and workload: the label."""
    seconds: float
    launches: int
    candidates: int
    """That were launched at all."""
    ended: str = ""


LADDER, THREE_ROUNDS = "the ladder", "every candidate in three rounds"
CLASSES = ("equal precision", "lossy ones allowed")


def members(race: Recorded, precision: str) -> list[str]:
    return [x for x in race.launches if precision == CLASSES[1] or x not in race.lossy]


def static_order(race: Recorded) -> Replayed:
    """The first of the static order, nothing launched."""
    picks = {(c, w): members(race, c)[0] for c in CLASSES for w in race.workloads}
    return Replayed(picks=picks, seconds=0.0, launches=0, candidates=0)


def prior_alone(race: Recorded, prior: Beliefs) -> Replayed:
    position = _position(race, prior, [], set(), {})
    return Replayed(picks=_picks(race, position), seconds=0.0, launches=0, candidates=0)


def every_round(race: Recorded) -> Replayed:
    """Every candidate in three rounds; a launch that was not recorded takes as long as the first that was."""
    recorded = full_race(race)
    missing = {label: max(0, ROUNDS - len(launches)) for label, launches in race.launches.items()}
    seconds = sum(count * launch_s(race.launches[label][0]) for label, count in missing.items())
    launches = recorded.launches + sum(missing.values())
    return replace(recorded, seconds=recorded.seconds + seconds, launches=launches)


def full_race(race: Recorded) -> Replayed:
    """Every recorded launch, as many as a budget of half an hour allowed, and the best by the medians."""
    picks = {(c, w): _best(race, members(race, c), w) for c in CLASSES for w in race.workloads}
    launches = [m for ms in race.launches.values() for m in ms]
    made = {race.conversion(label): race.converting_s(label) for label in race.launches}
    seconds = sum(map(launch_s, launches)) + sum(made.values())
    return Replayed(picks=picks, seconds=seconds, launches=len(launches), candidates=len(race.launches))


def _best(race: Recorded, labels: list[str], workload: Workload) -> str:
    return min(labels, key=lambda label: race.seconds(label, workload))


def ladder(race: Recorded, prior: Beliefs, sure: float = 0.95) -> Replayed:
    """The ladder, of one rung: no host recorded launches of a few layers."""
    seen: list[Observation] = []
    count: dict[str, int] = {}
    made: set[tuple[str, str]] = set()
    took: dict[str, float] = {}
    seconds = 0.0
    while True:
        position = _position(race, prior, seen, made, count, took, sure)
        match position.next():
            case Ended(why=why):
                break
            case move:
                label, rung = move.launches[0]
        launch = race.launches[label][count.get(label, 0)]
        count[label] = count.get(label, 0) + 1
        if race.conversion(label) not in made:
            made.add(race.conversion(label))
            seconds += race.converting_s(label)
        took[label] = launch_s(launch)
        cells, number = list[Cell](), round_of(label, rung, seen)
        for cell in launch.cells:
            cells.append(cell)
            times = {c.workload: (c.ttft_s, c.tpot_s) for c in cells}
            observation = Observation(label=label, rung=rung, round=number, times=times)
            if not position.goes_on(observation):
                break
        seen.append(observation)
        seconds += launch_s(replace(launch, cells=tuple(cells)))
    return Replayed(picks=_picks(race, position), seconds=seconds, launches=len(seen), candidates=len(count), ended=why)


def _picks(race: Recorded, position: Position) -> dict[tuple[str, Workload], str]:
    picks: dict[tuple[str, Workload], str] = {}
    for group, labels in zip(position.groups, position.picks, strict=True):
        for c in CLASSES:
            if set(group) == set(members(race, c)):
                picks |= {(c, w): label for w, label in zip(race.workloads, labels, strict=True)}
    return picks


def _position(
    race: Recorded,
    prior: Beliefs,
    seen: list[Observation],
    made: set[tuple[str, str]],
    count: Mapping[str, int],
    took: Mapping[str, float] | None = None,
    sure: float = 0.95,
) -> Position:
    noise = learned(Noise(), seen)
    believed = prior.given(seen, noise)
    rung, took = prior.rungs[-1], took or {}
    seconds: dict[tuple[str, Rung], float] = {}
    for number, label in enumerate(prior.labels):
        if count.get(label, 0) >= len(race.launches[label]):
            continue  # it was launched no more
        if label in took:
            seconds[label, rung] = took[label]
            continue
        times = believed.mean[number, -1]
        cells = sum(
            expected_s(cell, math.exp(ttft), math.exp(tpot))
            for cell, (ttft, tpot) in zip(prior.cells, times, strict=True)
        )
        missing = 0.0 if race.conversion(label) in made else race.expected_converting_s(label)
        seconds[label, rung] = LOAD_S + cells + missing
    return Position(
        prior=prior,
        lossy=race.lossy,
        workloads=race.workloads,
        launches=seen,
        seconds=seconds,
        noise=noise,
        sure=sure,
    )

"""The tables of a replay, as Markdown."""

from collections.abc import Mapping, Sequence

from benchmarks.replay.policies import CLASSES, LADDER, THREE_ROUNDS, Replayed, members
from benchmarks.replay.recorded import Recorded
from benchmarks.study.regret import Summary


def table(races: Sequence[Recorded], replayed: Sequence[Mapping[str, Replayed]]) -> list[str]:
    """A line for each policy: what it takes of the device beside three rounds of all, and what its picks cost."""
    lines = [
        f"| policy | launches | device-seconds | of three rounds | {' | '.join(CLASSES)} |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    whole = sum(one[THREE_ROUNDS].seconds for one in replayed)
    for name in replayed[0]:
        all_of = [one[name] for one in replayed]
        seconds = sum(r.seconds for r in all_of)
        regrets = [_told(_summary(races, all_of, precision)) for precision in CLASSES]
        launches = sum(r.launches for r in all_of)
        lines.append(f"| {name} | {launches} | {seconds:.0f} | {seconds / whole:.2f} | {' | '.join(regrets)} |")
    return lines


def groups(races: Sequence[Recorded], replayed: Sequence[Mapping[str, Replayed]]) -> list[str]:
    """A line for each host and shape: the ladder beside three rounds of all."""
    lines = [
        "| host | shape | candidates | launched | launches | device-seconds | of three rounds | ended | worst regret |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for race, policies in zip(races, replayed, strict=True):
        one, whole = policies[LADDER], policies[THREE_ROUNDS]
        worst = max(regrets(race, one, CLASSES[0]) + regrets(race, one, CLASSES[1]))
        lines.append(
            f"| {race.host} | {race.model.removeprefix('shape:')} | {len(race.launches)} | {one.candidates} |"
            f" {one.launches} | {one.seconds:.0f} | {one.seconds / whole.seconds:.2f} | {one.ended} | {worst:.3f} |"
        )
    return lines


def regrets(race: Recorded, replayed: Replayed, precision: str) -> list[float]:
    """Of a policy's picks of a class."""
    labels = members(race, precision)
    return [race.regret(pick, w, labels) for (of, w), pick in replayed.picks.items() if of == precision]


def _summary(races: Sequence[Recorded], replayed: Sequence[Replayed], precision: str) -> Summary | None:
    pairs = zip(races, replayed, strict=True)
    return Summary.of(ratio for race, one in pairs for ratio in regrets(race, one, precision))


def _told(summary: Summary | None) -> str:
    return f"{summary.geomean:.3f} ({summary.worst:.2f})" if summary else "-"

"""Replays policies over the launches that hosts recorded: what each costs and what it picks.

`python -m benchmarks.replay [--results results] [--out FILE]`
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.replay.policies import Replayed, every_round, full_race, ladder, prior_alone, static_order
from benchmarks.replay.prior import prior as prior_of
from benchmarks.replay.recorded import Recorded, recorded
from benchmarks.replay.report import groups, table
from calibration.race.ladder.beliefs import Beliefs


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--results", default="results", help="folder of hosts/*.json")
    parser.add_argument("--out", default="build/replay.md", help="file of the tables")
    arguments = parser.parse_args(argv)
    races = recorded(Path(arguments.results) / "hosts")
    replayed = [replay(race) for race in races]
    text = "\n".join([*table(races, replayed), "", *groups(races, replayed), ""])
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def replay(race: Recorded) -> dict[str, Replayed]:
    """Every policy over one recorded calibration."""
    prior = prior_of(race)
    return {
        "static order": static_order(race),
        "prior alone": prior_alone(race, prior),
        "every candidate in three rounds": every_round(race),
        "the race that drops who is slower, as recorded": full_race(race),
        "the ladder, nothing known": ladder(race, Beliefs.vague(prior.labels, prior.rungs, prior.cells)),
        "the ladder": ladder(race, prior),
    }

"""Fits what a race believes of few layers to launches of few layers and of whole models.

`python -m benchmarks.measuring.cuts` takes those of results/hosts. A cache's are added by its file; where its model is
not in the library, by `FILE=FOLDER` with the folder of the model's config.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from benchmarks.measuring.cuts.cases import Case, cases_of
from calibration.cache.cache import Cache
from calibration.race.ladder.beliefs import Noise
from selector.predict.beliefs import DEVIATIONS, Deviations
from selector.publish.hosts.host_file import read

CUT = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08)
CELL = (0.02, 0.05, 0.08, 0.10, 0.12, 0.15)
CUT_CELL = (0.02, 0.05, 0.08, 0.10, 0.12)
NOISES = (Noise(), Noise(launch_cv=0.05, round_cv=0.05))
"""A prior's, and about what launches show on a machine that is alone."""
SHOWN = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measuring.cuts", description=__doc__)
    parser.add_argument("caches", nargs="*", metavar="CACHE[=FOLDER]")
    parser.add_argument("--results", type=Path, default=Path("results/hosts"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    cases = list(_cases(options.results, options.caches))
    for case in cases:
        print(f"{case.model}: {len(case.launches)} launches of {', '.join(case.labels)} on {_rungs(case)}")
    for noise in NOISES:
        print(f"\nbetween launches {noise.launch_cv:.2f}, between rounds {noise.round_cv:.2f}")
        print("each halving   a cell   a cell of a rung   log likelihood")
        fits = {deviations: likelihood(cases, deviations, noise) for deviations in {*grid(), DEVIATIONS}}
        best = sorted(fits, key=lambda deviations: -fits[deviations])
        for deviations in dict.fromkeys([*best[:SHOWN], DEVIATIONS]):
            cut, cell, cut_cell = astuple(deviations)
            used = "   as it is used" if deviations == DEVIATIONS else ""
            print(f"{cut:12.2f}   {cell:6.2f}   {cut_cell:16.2f}   {fits[deviations]:14.1f}{used}")
    return 0


def grid() -> Iterator[Deviations]:
    """What is tried."""
    for cut, cell, cut_cell in itertools.product(CUT, CELL, CUT_CELL):
        yield Deviations(cut=cut, cell=cell, cut_cell=cut_cell)


def likelihood(cases: Sequence[Case], deviations: Deviations, noise: Noise) -> float:
    """Of all cases together; logarithm."""
    return sum(case.log_likelihood(deviations, noise) for case in cases)


def _cases(results: Path, caches: Sequence[str]) -> Iterator[Case]:
    for path in sorted(results.glob("*.json")):
        yield from cases_of(read(path).outcomes)
    for name in caches:
        file, _, folder = name.partition("=")
        with Cache.open(Path(file)) as cache:
            yield from cases_of(cache.all(), folder)


def _rungs(case: Case) -> str:
    return ", ".join(str(rung) for rung in case.rungs)

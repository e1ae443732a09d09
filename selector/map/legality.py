"""Verdicts on all workloads of a map, from judging a few of them."""

from collections.abc import Callable, Iterator
from itertools import product

from calibration.workload import Workload
from selector.map.axes import Axes
from selector.rules.judge import Verdict

Judge = Callable[[Workload], tuple[Verdict, ...]]
Box = tuple[range, range, range]
"""Places of the prompts, the outputs and the batches."""


def verdicts_of(axes: Axes, judge: Judge) -> dict[Workload, tuple[Verdict, ...]]:
    """The verdicts for each workload; the figures in their reasons may be those of a smaller one.

    More tokens never make a refused variant legal. So where the least and the largest workload of a box have the same
    legal variants, all between them have; else the box is halved.
    """
    return dict(_judged(axes, judge, (range(len(axes.prompts)), range(len(axes.outputs)), range(len(axes.batches)))))


def _judged(axes: Axes, judge: Judge, box: Box) -> Iterator[tuple[Workload, tuple[Verdict, ...]]]:
    least = judge(axes.at(*(places[0] for places in box)))
    if all(len(places) == 1 for places in box) or _same(least, judge(axes.at(*(places[-1] for places in box)))):
        yield from ((axes.at(*places), least) for places in product(*box))
        return
    longest = max(range(3), key=lambda direction: len(box[direction]))
    places = box[longest]
    middle = len(places) // 2
    for half in (places[:middle], places[middle:]):
        prompts, outputs, batches = (half if direction == longest else box[direction] for direction in range(3))
        yield from _judged(axes, judge, (prompts, outputs, batches))


def _same(one: tuple[Verdict, ...], other: tuple[Verdict, ...]) -> bool:
    return all((a.legal, a.left_out) == (b.legal, b.left_out) for a, b in zip(one, other, strict=True))

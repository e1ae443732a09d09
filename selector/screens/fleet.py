"""The screens of `fleet`: which hosts are alike, what they do, and whose results hold for whom."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from selector.fleet.install import Installed
from selector.fleet.progress import Came, Doing, FleetResult, Now
from selector.fleet.survey import Member, Survey
from selector.fleet.tasks import Calibrate, Standing, Task
from selector.screens.remaining import about, left_in
from selector.screens.text import columns, listing, plural, seconds

EVERY_S: Final = 10.0
"""JSON lines tell at most so often what all nodes do."""


def hosts_screen(surveyed: Survey, across: int | None = None) -> list[str]:
    """A paragraph for each group of hosts that are alike, and who takes no part."""
    lines: list[str] = []
    for kin, names in surveyed.groups.items():
        rows = [
            (
                f"  {name}",
                surveyed.member(name).host.identifier,
                _missing(surveyed.member(name)),
                _at_once(surveyed, name),
            )
            for name in names
        ]
        lines += [f"{plural(len(names), 'host')}: {kin.title}", *columns(rows, across=across), ""]
    lines += [f"no part: {name}, {why}" for name, why in surveyed.unusable.items()]
    if not surveyed.unusable:
        lines.pop()
    return lines


def result_screen(result: FleetResult, across: int | None = None) -> list[str]:
    """A line for each host, and the models that have no answer."""
    head = ("host", "calibrated", "compared on", "beside its group", "")
    rows = [
        (one.host, _count(one.calibrated), _count(one.checked), _beside(one), _holds(one)) for one in result.standings
    ]
    lines = columns([head, *rows], "<>><", across=across)
    for kin, models in result.given_up.items():
        lines += ["", *(f"no answer for {model} on {kin.title}: {why}" for model, why in models.items())]
    lines += [f"no part: {name}, {why}" for name, why in result.unusable.items()]
    return [*lines, "", f"took {seconds(result.seconds)}"]


def installed_screen(came: Sequence[Installed]) -> list[str]:
    """A line for each node."""
    lines = []
    for one in came:
        if not one.lacked:
            lines.append(f"{one.node}: has them already")
        elif one.error:
            lines.append(f"{one.node}: {listing(one.lacked)} could not be installed: {one.error}")
        else:
            lines.append(f"{one.node}: installed {listing(one.lacked)}")
    return lines


class FleetProgress:
    """Shows what the nodes do: on a terminal as a table that changes, elsewhere as a line for each task.

    Args:
        console: of stderr.
        as_json: a JSON line for each task and each sentence, and every EVERY_S for what the nodes do, instead.
    """

    def __init__(
        self,
        console: Console,
        *,
        as_json: bool,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._write, self._clock = console, write, clock
        self._as_json = as_json
        self._live = Live(console=console, transient=True) if console.is_terminal and not as_json else None
        self._ends: dict[str, _End] = {}
        self._next_s = 0.0
        """When, on the clock, the next JSON line tells what the nodes do."""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def now(self, now: Now, /) -> None:
        """Show it where a table changes, and as a JSON line now and then."""
        self._ends = {doing.node: self._end_of(doing) for doing in now.doing}
        if self._live is not None:
            self._live.update(self._table(now), refresh=True)
        elif self._as_json and self._clock() >= self._next_s:
            self._next_s = self._clock() + EVERY_S
            self._line(
                {
                    "doing": [
                        {
                            "host": doing.node,
                            "model": doing.task.model,
                            "task": _kind(doing.task),
                            "since_s": doing.since_s,
                            "left_s": self._left_s(doing),
                            "now": doing.now,
                        }
                        for doing in now.doing
                    ],
                    "calibrations_left": now.calibrations_left,
                    "checks_left": now.checks_left,
                }
            )

    def _table(self, now: Now) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("node", "model", "task", "since", "left", "now"):
            table.add_column(heading, no_wrap=heading != "now")
        for doing in now.doing:
            left_s = self._left_s(doing)
            table.add_row(
                *(doing.node, doing.task.model, _kind(doing.task), seconds(doing.since_s)),
                *("" if left_s is None else f"about {about(left_s)}", doing.now),
            )
        table.caption = (
            f"{plural(now.calibrations_left, 'calibration')} and {plural(now.checks_left, 'spot check')} left"
        )
        return table

    def _end_of(self, doing: Doing) -> "_End":
        """When it will be over: its command says so in some of its lines, and the time runs in between."""
        before = self._ends.get(doing.node)
        if before is None or before.task != doing.task:
            before = _End(task=doing.task, line="", at_s=None)
        left_s = left_in(doing.now)
        if doing.now == before.line or left_s is None:
            return before
        return _End(task=doing.task, line=doing.now, at_s=self._clock() + left_s)

    def _left_s(self, doing: Doing) -> float | None:
        at_s = self._ends[doing.node].at_s
        return None if at_s is None else max(0.0, at_s - self._clock())

    def came(self, came: Came, /) -> None:
        """A line."""
        kind = _kind(came.task)
        if self._as_json:
            self._line(
                {
                    "host": came.task.host,
                    "model": came.task.model,
                    "task": kind,
                    "how": came.how,
                    "seconds": came.seconds,
                }
            )
        else:
            self._console.print(
                f"{came.task.host}: {kind} of {came.task.model}: {came.how} ({seconds(came.seconds)})",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def said(self, sentence: str, /) -> None:
        """A line."""
        if self._as_json:
            self._line({"said": sentence})
        else:
            self._console.print(f"note: {sentence}", markup=False, highlight=False, soft_wrap=True)

    def _line(self, value: dict[str, Any]) -> None:
        self._write(json.dumps(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """When a task will be over."""

    task: Task
    line: str
    """What its command said when this was known."""
    at_s: float | None
    """On the clock; None: nothing is known yet."""


def _missing(member: Member) -> str:
    """`lacks openvino, takes no turbomind`."""
    lacked = [name for name, why in member.lacks.items() if not why]
    unfit = [name for name, why in member.lacks.items() if why]
    parts = (f"lacks {listing(lacked)}" if lacked else "", f"takes no {listing(unfit)}" if unfit else "")
    return ", ".join(part for part in parts if part) or "has all backends"


def _at_once(surveyed: Survey, name: str) -> str:
    devices = surveyed.member(name).at_once
    return f"calibrates on {devices} devices at once" if devices > 1 else ""


def _kind(task: Task) -> str:
    return "calibration" if isinstance(task, Calibrate) else "spot check"


def _count(models: Iterable[str]) -> str:
    names = list(models)
    return plural(len(names), "model") if names else "-"


def _beside(one: Standing) -> str:
    if one.likeness is None or one.likeness.models == 0:
        return "-"
    turned = ", ".join(f"{model} {ratio:.2f}" for model, ratio in one.likeness.turned.items())
    return f"{one.likeness.ratio:.3f} of 1/{one.likeness.limit:.2f} to {one.likeness.limit:.2f}" + (
        f"; order of {turned}" if turned else ""
    )


def _holds(one: Standing) -> str:
    if one.gone:
        return one.gone
    if one.failed:
        return "; ".join(f"{model}: {why}" for model, why in one.failed.items())
    if one.likeness is None or one.likeness.models == 0:
        return "its own" if one.calibrated else "nothing measured"
    return "alike: the group's results hold" if one.likeness.alike else "not like the others: its own"

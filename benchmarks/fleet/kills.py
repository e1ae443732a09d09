"""A fleet whose driver or one node is killed at a random moment: is anything lost, measured twice, or left running?

`python -m benchmarks.fleet.kills MODEL [--runs 50] [--seed 0] [--backends A,B] [--out FILE]`

A fleet of four nodes on this machine, two of each kind, calibrates a model into a PostgreSQL database of its own: once
undisturbed, then with one kill in each run, in turn of the driver and of a node, after which the same command is run
again to its end. Told are the launches of each run beside those of the undisturbed one. After a killed driver they must
be the same, host by host. After a killed node, which comes back, the other host of its kind may have taken over: then
each kind must have what it has in the undisturbed run, and no host anything twice.
Every run is a line of FILE as soon as it has ended; a command that was stopped goes on with the runs that FILE lacks.
The exit code is 1 where one is not well, which includes a command of ours that still runs at the end.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.fleet.raylets import Raylets, left_running, raylets
from benchmarks.shared.postgresql import Server, running
from calibration.cache.cache import Cache
from calibration.measurement import Measurement
from selector.host.spec import HostSpec

PROGRAM: Final = Path(__file__).resolve().parents[2] / "autobackend.py"
KINDS: Final = {"Alpha": ("a1", "a2"), "Beta": ("b1", "b2")}
HOSTS: Final = tuple(host for hosts in KINDS.values() for host in hosts)
GONE_S: Final = 30.0
"""How long after a kill what it started may take to go, on a machine that is busy with five of everything."""
LIMIT_S: Final = 900.0

Launches = Mapping[str, int]
"""`HOST CANDIDATE CUT`: how often it was launched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """The run without a kill, and where all of them ran."""

    host: str
    command: str
    date: str
    lasted_s: float
    launches: Launches


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a run with a kill."""

    number: int
    killed: str
    """`driver`, or the node."""
    after_s: float
    same: bool
    """The launches of each host are those of the undisturbed run."""
    lost: tuple[str, ...] = ()
    """Kinds and candidates that the undisturbed run has oftener."""
    twice: tuple[str, ...] = ()
    """Hosts and candidates that were launched oftener than any host launched them in the undisturbed run."""
    left: tuple[str, ...] = ()
    """Nodes on which something still ran at the end."""
    codes: tuple[int | None, ...] = ()
    """Exit codes of both commands; None: it did not end within LIMIT_S."""
    complete: bool = False
    """Every host has an answer at the end."""
    launches: Launches = field(default_factory=dict)

    @property
    def well(self) -> bool:
        return (
            self.complete
            and self.codes[-1] == 0
            and None not in self.codes
            and not self.lost
            and not self.left
            and not self.twice
            and (self.same or self.killed != "driver")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """The command had ended before anything was killed."""

    lasted_s: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", default="transformers:sdpa,transformers:eager")
    parser.add_argument("--workload", default="pp16:tg8:b1")
    parser.add_argument("--out", type=Path, default=Path("build/fleet-kills.jsonl"))
    words = parser.parse_args(argv)
    words.out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="autobackend-fleet-"))
    try:
        with running() as server, raylets(folder, KINDS) as nodes:
            runs = _runs(words, _Fleet(words, nodes, server))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bad = [run for run in runs if not run.well]
    drivers = sum(run.killed == "driver" for run in runs)
    print(f"{len(runs)} runs, {drivers} with a killed driver, the others with a killed node; {len(bad)} not well")
    return 1 if bad else 0


def run_of(line: Mapping[str, Any]) -> Run:
    """A run by its line of the file."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in line.items()}
    return Run(**fields)


def by_kind(launches: Launches) -> Counter[str]:
    """With the kind instead of the host; what several hosts of a kind launched counts as often."""
    kind_of = {host: kind for kind, hosts in KINDS.items() for host in hosts}
    counts = Counter[str]()
    for name, count in launches.items():
        host, _, what = name.partition(" ")
        counts[f"{kind_of[host]} {what}"] += count
    return counts


def twice(launches: Launches, undisturbed: Launches) -> Iterator[str]:
    """What a host launched oftener than any host did in the undisturbed run."""
    most: dict[str, int] = {}
    for name, count in undisturbed.items():
        what = name.partition(" ")[2]
        most[what] = max(count, most.get(what, 0))
    return (name for name, count in launches.items() if count > most.get(name.partition(" ")[2], 0))


def _runs(words: argparse.Namespace, fleet: "_Fleet") -> list[Run]:
    """Those of the file, and then those that it lacks; each becomes a line of it."""
    lines = [json.loads(line) for line in words.out.read_text().splitlines()] if words.out.exists() else []
    if lines:
        undisturbed = Undisturbed(**lines[0])
    else:
        undisturbed = fleet.undisturbed()
        _append(words.out, undisturbed)
    print(f"undisturbed: {undisturbed.lasted_s:.0f} s, {sum(undisturbed.launches.values())} launches", flush=True)
    runs = {run.number: run for run in map(run_of, lines[1:])}
    lasted_s = undisturbed.lasted_s
    for number in range(words.runs):
        while number not in runs:
            match fleet.killed(number, undisturbed, lasted_s):
                case Late(lasted_s=shorter):
                    lasted_s = shorter
                case Run() as run:
                    runs[number] = run
                    _append(words.out, run)
                    print(_line(run), flush=True)
    return [runs[number] for number in sorted(runs)]


class _Fleet:
    """The command whose driver or nodes are killed, on the nodes of a cluster."""

    def __init__(self, words: argparse.Namespace, nodes: Raylets, server: Server) -> None:
        self._nodes, self._server, self._seed, self._logs = nodes, server, words.seed, words.out.with_suffix("")
        self._words = (
            "fleet", "calibrate", words.model, "--backends", words.backends, "--workload", words.workload,
            "--rounds", "1", "--no-probe", "--json",
        )  # fmt: skip

    def undisturbed(self) -> Undisturbed:
        """The second of two, since the first may have to convert the model.

        Raises:
            RuntimeError: one did not come to its end.
        """
        for title in ("converts", "undisturbed"):
            with self._server.database() as name:
                began = time.monotonic()
                with self._driver(name, title) as driver:
                    code = _ended(driver)
                if code != 0 or not self._complete(title):
                    raise RuntimeError(
                        f"the run without a kill ended with {code}, or a host has no answer: {self._logs}"
                    )
                lasted_s = time.monotonic() - began
                launches = self._launches(name)
        named = ("fleet", "calibrate", "MODEL", *self._words[3:])
        return Undisturbed(
            host=HostSpec.detect().device.name,
            command=f"autobackend {' '.join(named)}",
            date=time.strftime("%Y-%m-%d"),
            lasted_s=lasted_s,
            launches=launches,
        )

    def killed(self, number: int, undisturbed: Undisturbed, lasted_s: float) -> Run | Late:
        """A run with a kill.

        Args:
            lasted_s: what the command takes, by the last time that it came to its end.
        """
        draw = random.Random(f"{self._seed}/{number}")  # so that a run is the same whichever ones went before
        killed = draw.choice(HOSTS) if number % 2 else "driver"
        after_s = draw.uniform(0.05, 0.95) * lasted_s
        with self._server.database() as name:
            with self._driver(name, f"{number}-killed") as driver:
                began = time.monotonic()
                if not self._kill(driver, killed, after_s):
                    return Late(lasted_s=time.monotonic() - began)
                codes = [_ended(driver)]
            left = _left(self._nodes.folder)
            if killed != "driver" and killed not in self._nodes.nodes:
                self._nodes.start(killed)
                self._nodes.cluster.wait_for_nodes()
            with self._driver(name, f"{number}-again") as driver:
                codes.append(_ended(driver))
            complete = self._complete(f"{number}-again")
            launches = self._launches(name)
        run = Run(
            number=number,
            killed=killed,
            after_s=after_s,
            same=launches == undisturbed.launches,
            lost=tuple(sorted((by_kind(undisturbed.launches) - by_kind(launches)).elements())),
            twice=tuple(sorted(twice(launches, undisturbed.launches))),
            left=(*left, *_left(self._nodes.folder)),
            codes=tuple(codes),
            complete=complete,
            launches=launches,
        )
        if run.well:
            for log in self._logs.glob(f"{number}-*.log"):
                log.unlink()
        return run

    def _kill(self, driver: "subprocess.Popen[bytes]", killed: str, after_s: float) -> bool:
        """Kill it after this time, unless the command has ended by then; whether it had not."""
        try:
            driver.wait(after_s)
        except subprocess.TimeoutExpired:
            if killed == "driver":
                driver.kill()
            else:
                self._nodes.kill(killed)
            return True
        return False

    @contextmanager
    def _driver(self, database: str, title: str) -> "Iterator[subprocess.Popen[bytes]]":
        self._logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(PROGRAM), *self._words, "--ray", self._nodes.address]
        # Not among the words, which everybody on the machine may read.
        variables = {**os.environ, "AUTOBACKEND_CACHE": self._server.url(database)}
        with (self._logs / f"{title}.log").open("wb") as log:
            driver = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
            try:
                yield driver
            finally:
                driver.kill()
                driver.wait()

    def _complete(self, title: str) -> bool:
        """Whether every host has an answer, as the command's last line says."""
        last = (self._logs / f"{title}.log").read_text(encoding="utf-8").splitlines()[-1:]
        return bool(last) and last[0].startswith("{") and bool(json.loads(last[0]).get("complete"))

    def _launches(self, database: str) -> Launches:
        with Cache.open(self._server.url(database), fleet="") as opened:
            names = [
                f"{one.identity.host} {one.candidate.label} {one.identity.cut}".strip()
                for one in opened.all()
                if isinstance(one, Measurement)
            ]
        return dict(Counter(names))  # no Counter, of which asdict makes another one wrongly


def _ended(driver: "subprocess.Popen[bytes]") -> int | None:
    """Its exit code; None where it does not end within LIMIT_S."""
    try:
        return driver.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        return None


def _left(folder: Path) -> tuple[str, ...]:
    """On which nodes something of ours runs, once it had the time to go."""
    end = time.monotonic() + GONE_S
    while (left := left_running(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    return tuple(left)


def _append(file: Path, line: Undisturbed | Run) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(asdict(line)) + "\n")


def _line(run: Run) -> str:
    verdict = "well" if run.well else "NOT WELL"
    more = f", lost {run.lost}" if run.lost else ""
    more += f", twice {run.twice}" if run.twice else ""
    more += f", left {run.left}" if run.left else ""
    more += "" if run.complete else ", not complete"
    more += f", codes {run.codes}" if run.codes[-1] != 0 or None in run.codes else ""
    same = ", the same" if run.same else ""
    return f"{run.number + 1}: {run.killed} killed after {run.after_s:.1f} s: {verdict}{same}{more}"


if __name__ == "__main__":
    sys.exit(main())

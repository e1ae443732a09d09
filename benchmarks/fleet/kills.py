"""A fleet whose driver or one node is killed at a random moment: is anything lost, measured twice, or left running?

`python -m benchmarks.fleet.kills MODEL [--runs 50] [--seed 0] [--backends A,B]`

A fleet of four nodes on this machine, two of each kind, calibrates a model: once undisturbed, then with one kill in
each run, after which the same command is run again to its end. Told are the launches of each run beside those of the
undisturbed one. After a killed driver they must be the same, host by host. After a killed node, which comes back,
another host of its kind may have taken over: then every kind must have every candidate, and no host one more often
than it may.
The exit code is 1 where that does not hold, or where a command of ours still runs at the end.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.fleet.raylets import Raylets, left_running, raylets
from calibration.cache.cache import Cache
from calibration.measurement import Measurement

PROGRAM: Final = Path(__file__).resolve().parents[2] / "autobackend.py"
KINDS: Final = {"Alpha": ("a1", "a2"), "Beta": ("b1", "b2")}
HOSTS: Final = tuple(host for hosts in KINDS.values() for host in hosts)
GONE_S: Final = 10.0
"""How long after a kill what it started may take to go."""
LIMIT_S: Final = 600.0

Launches = Counter[tuple[str, str]]
"""Host and candidate: how often it was launched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a run with a kill."""

    killed: str
    """`driver`, or the node."""
    after_s: float
    same: bool
    """The launches of each host are those of the undisturbed run."""
    lost: tuple[str, ...]
    """Kinds and candidates that nobody of the kind launched."""
    twice: tuple[str, ...]
    """Hosts and candidates that were launched more often than in the undisturbed run."""
    left: tuple[str, ...]
    """Nodes on which something still ran at the end."""
    ended: bool = True
    """The command came to its end, both times."""

    @property
    def well(self) -> bool:
        return (
            self.ended
            and not self.lost
            and not self.left
            and (self.same if self.killed == "driver" else not self.twice)
        )


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
    parser.add_argument("--out", type=Path, default=Path("build/fleet-kills.json"))
    arguments = parser.parse_args(argv)
    draw = random.Random(arguments.seed)
    words = (
        "fleet", "calibrate", arguments.model, "--backends", arguments.backends, "--workload", arguments.workload,
        "--rounds", "1", "--no-probe", "--json",
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="autobackend-fleet-"))
    runs: list[Run] = []
    try:
        with raylets(folder, KINDS) as nodes:
            began = time.monotonic()
            undisturbed = _undisturbed(words, folder / "undisturbed.db", nodes)
            if undisturbed is None:
                print(f"the run without a kill took longer than {LIMIT_S:.0f} s", file=sys.stderr)
                return 1
            lasted_s = time.monotonic() - began
            print(f"undisturbed: {lasted_s:.0f} s, {sum(undisturbed.values())} launches", flush=True)
            for number in range(arguments.runs):
                killed = draw.choice(("driver", *HOSTS))
                run = _killed(
                    words, folder / f"{number}.db", nodes, killed, draw.uniform(0.1, 0.95) * lasted_s, undisturbed
                )
                runs.append(run)
                print(_line(number, run), flush=True)
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps([asdict(one) for one in runs], indent=2) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bad = [run for run in runs if not run.well]
    print(f"{len(runs)} runs, {len(bad)} of them not well")
    return 1 if bad else 0


def _undisturbed(words: Sequence[str], cache: Path, nodes: Raylets) -> Launches | None:
    """None where it did not end."""
    return _launches(cache) if _ends(_driver(words, cache, nodes)) else None


def _killed(
    words: Sequence[str], cache: Path, nodes: Raylets, killed: str, after_s: float, undisturbed: Launches
) -> Run:
    driver = _driver(words, cache, nodes)
    try:
        driver.wait(after_s)
    except subprocess.TimeoutExpired:
        if killed == "driver":
            driver.kill()
        else:
            nodes.kill(killed)
    ended = _ends(driver)
    left = _left()
    if killed not in nodes.nodes and killed != "driver":
        nodes.start(killed)
        nodes.cluster.wait_for_nodes()
    ended = _ends(_driver(words, cache, nodes)) and ended
    launches = _launches(cache)
    return Run(
        killed=killed,
        after_s=after_s,
        same=launches == undisturbed,
        lost=tuple(sorted(_by_kind(undisturbed) - _by_kind(launches))),
        twice=tuple(
            f"{host} {label}" for (host, label), count in sorted(launches.items()) if count > max(undisturbed.values())
        ),
        left=(*left, *_left()),
        ended=ended,
    )


def _ends(driver: "subprocess.Popen[bytes]") -> bool:
    """Whether it ends within LIMIT_S; otherwise it is killed."""
    try:
        driver.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.wait()
        return False
    return True


def _driver(words: Sequence[str], cache: Path, nodes: Raylets) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(PROGRAM), *words, "--ray", nodes.address, "--cache", str(cache)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)


def _launches(cache: Path) -> Launches:
    with Cache.open(cache) as opened:
        return Counter(
            (one.identity.host, f"{one.candidate.label} {one.identity.cut}".strip())
            for one in opened.all()
            if isinstance(one, Measurement)
        )


def _by_kind(launches: Launches) -> set[str]:
    kind_of = {host: kind for kind, hosts in KINDS.items() for host in hosts}
    return {f"{kind_of[host]} {label}" for host, label in launches}


def _left() -> tuple[str, ...]:
    """On which nodes something of ours runs, once it had the time to go."""
    end = time.monotonic() + GONE_S
    while (left := left_running(HOSTS)) and time.monotonic() < end:
        time.sleep(0.2)
    return tuple(left)


def _line(number: int, run: Run) -> str:
    verdict = "well" if run.well else "NOT WELL"
    more = f", lost {run.lost}" if run.lost else ""
    more += f", twice {run.twice}" if run.twice else ""
    more += f", left {run.left}" if run.left else ""
    more += "" if run.ended else f", not ended within {LIMIT_S:.0f} s"
    same = ", the same" if run.same else ""
    return f"{number + 1}: {run.killed} killed after {run.after_s:.1f} s: {verdict}{same}{more}"


if __name__ == "__main__":
    sys.exit(main())

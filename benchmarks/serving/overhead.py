"""What serving adds to an engine: the same requests through `autobackend serve`, and straight to a worker.

`python -m benchmarks.serving.overhead MODEL [--backend NAME] [--rounds 4] [--requests 4] [--out build/overhead.json]`

Both are launched once, and asked in each round in the order A B B A, at one stream and at eight. A is what a user sees:
our client, over HTTP, in a process of its own; B is this process alone with a worker of its own, without HTTP and text,
or the same client and the server that the engine brings. Told is A over B: of TTFT and TPOT the medians, of tokens a
second the whole run; and the CPU time of each process for a token. Where B has no client, A over B holds what the
client takes from the engine, too: it shares its cores. The machine must have nothing else to do.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

from benchmarks.measuring.judge.seen import FIGURES, Seen, seen_by_us
from benchmarks.measuring.judge.served import serving
from benchmarks.serving.bare import Bare, loaded
from benchmarks.serving.spent import cpu_s
from calibration.errors import AutobackendError, UsageError
from calibration.events import Silent
from calibration.load.client.load_spec import LoadSpec
from calibration.load.load import Load
from calibration.load.run import FOREIGN_MOST, PATIENCE_S, LoadedServer, measure
from calibration.load.sample import NoPoint, Point
from calibration.supervision.deadline import GivenUp
from calibration.supervision.device_lock import device_lock
from calibration.whole_file import write_whole
from selector.planning.room import room_for
from selector.selection import choose
from selector.serve.prepare import Prepared, prepare
from selector.serve.upstream import Unavailable

LOADS: Final = ("pp128:tg64:c1", "pp128:tg64:c8")
AT_EIGHT: Final = 4
"""Times as many requests in a run at eight streams, which are answered about as fast as that."""
BUDGET_S: Final = 1800.0
GOALS: Final = {(1, "ttft_p50_s"): 1.03, (1, "tpot_p50_s"): 1.03, (8, "output_tps"): 0.95}
"""By streams and figure: the ratio at most, of tokens a second at least."""
FRONT, CLIENT, ALONE = "front", "its client", "who asks the bare engine"
NAMES: Final = {"output_tps": "tok/s", "ttft_p50_s": "TTFT p50", "tpot_p50_s": "TPOT p50"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One load in one round: front, bare, bare, front."""

    load: str
    front: tuple[Seen, Seen]
    bare: tuple[Seen, Seen]
    others: float
    """The share of the cores that other programs used, at most, while the front was asked."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds for a token, by process: FRONT and CLIENT of the served one; ALONE: of the bare one, this process, or
    the same client where the engine brings a server."""

    def ratio(self, figure: str) -> float:
        """The front's mean over the bare engine's."""
        return _over(mean(_values(self.front, figure)), mean(_values(self.bare, figure)))

    def twice(self, figure: str) -> float:
        """How far one of the two differs from itself, at most, as a ratio of at least 1."""
        pairs = (_values(self.front, figure), _values(self.bare, figure))
        return max(_over(max(pair), min(pair)) for pair in pairs)


def _over(one: float, other: float) -> float:
    """1 where both are 0, as TPOT is of answers that come whole."""
    return one / other if other else 1.0 if one == other else inf


def _values(pair: tuple[Seen, Seen], figure: str) -> list[float]:
    return [float(getattr(seen, figure)) for seen in pair]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no server is left
    loads = [Load.parse(label) for label in LOADS]
    try:
        with tempfile.TemporaryDirectory(prefix="autobackend-") as name:
            prepared = _prepared(arguments, loads, Path(name))
            with device_lock(prepared.selection.host.device.name):
                rounds = run(prepared, loads, arguments, Path(name))
    except (GivenUp, Unavailable) as not_loaded:
        print(not_loaded, file=sys.stderr)
        return 1
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    rows, spent = rows_of(rounds), cpu_of(rounds)
    device = prepared.selection.host.device
    content = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "host": f"{device.name}, {prepared.subject.threads} threads",
        "model": arguments.model,
        "candidate": prepared.spec.label,
        "rows": rows,
        "cpu": spent,
        "rounds": [asdict(each) for each in rounds],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, json.dumps(content, indent=1) + "\n")
    print(f"{prepared.spec.label}, {arguments.model}, served over bare")
    print("\n".join(table(rows)))
    for row in spent:
        told = ", ".join(f"{process} {us:.0f} us" for process, us in row["cpu_us_a_token"].items())
        print(f"CPU a token at {row['load']}: {told}")
    return 0


def run(prepared: Prepared, loads: Sequence[Load], arguments: argparse.Namespace, folder: Path) -> list[Round]:
    """All loads in each round.

    Raises:
        AutobackendError, GivenUp, Unavailable: one of the two does not run, or does not answer.
    """
    rounds = []
    log = arguments.out.with_suffix(".log")
    with (
        serving(arguments.model, words(prepared), vocab_size=prepared.subject.vocab_size, log=log) as served,
        loaded(prepared, folder / "bare.log") as engine,
    ):
        for pid in served.pids if arguments.nice else ():
            os.setpriority(os.PRIO_PROCESS, pid, arguments.nice)  # of its event loop: its engine began before
        for number in range(arguments.rounds):
            for load in loads:
                print(f"round {number + 1} of {arguments.rounds}: {load.label} ...", file=sys.stderr, flush=True)
                requests = arguments.requests * (AT_EIGHT if load.streams > 1 else 1)
                rounds.append(_round(served, engine, load, f"{number}", requests))
    return rounds


def words(prepared: Prepared) -> list[str]:
    """The words by which `autobackend serve` starts the same."""
    room = prepared.room
    sizes = {"slots": room.slots, "context": room.context_tokens, "threads": prepared.subject.threads}
    return [
        *("--workload", prepared.selection.use.label),
        *("--backend", prepared.spec.label),
        *(word for name, count in sizes.items() for word in (f"--{name}", str(count))),
        *(["--allow-lossy"] if prepared.variant.lossy else []),
    ]


def _round(served: LoadedServer, engine: Bare, load: Load, seed: str, requests: int) -> Round:
    others: list[float] = []
    spent = defaultdict[str, list[float]](list)

    def spec(turn: str, count: int = requests) -> LoadSpec:
        """Lengths are those of the round; the two that stand in one turn get the same prompts, no other run does."""
        return LoadSpec(
            url=served.url,
            key=served.key,
            model=served.model,
            vocab_size=served.vocab_size,
            fields=served.fields,
            load=load,
            seed=seed,
            prompt_seed=f"{seed} {load.label} {turn}",
            requests=count,
            budget_s=BUDGET_S,
            patience_s=PATIENCE_S,
            whole=True,
        )

    def front(turn: str) -> Seen:
        begin_s = sum(map(cpu_s, served.pids))
        point = measure(served, spec(turn))
        spent[FRONT].append((sum(map(cpu_s, served.pids)) - begin_s) / _tokens(point))
        if isinstance(point, NoPoint):
            raise AutobackendError(f"the front could not be measured at {load.label}: {point.reason}")
        if point.failures:
            raise AutobackendError(f"the front failed at {load.label}: {point.failures[0]}")
        spent[CLIENT].append(point.client_cores * point.window_s / _tokens(point))
        others.append(point.foreign_share or 0.0)
        return seen_by_us(point)

    def bare(turn: str) -> Seen:
        begin_s = cpu_s(os.getpid())
        point = engine.run(spec(turn))
        own_s = cpu_s(os.getpid()) - begin_s
        spent[ALONE].append((point.client_cores * point.window_s or own_s) / _tokens(point))
        return seen_by_us(point)

    engine.run(spec("warm-up", load.streams))  # our client warms the served one up by itself
    first, both_bare, last = front("first"), (bare("first"), bare("second")), front("second")
    return Round(
        load=load.label,
        front=(first, last),
        bare=both_bare,
        others=max(others),
        cpu_s={process: median(each) for process, each in spent.items()},
    )


def _tokens(point: Point | NoPoint) -> int:
    return 1 if isinstance(point, NoPoint) else sum(asked.output_tokens for asked in point.answered) or 1


def rows_of(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """A row for each load and figure: the median ratio of all rounds, its least and its most, and the goal.

    Nothing is judged of a load that other programs disturbed.
    """
    rows = []
    for label in dict.fromkeys(each.load for each in rounds):
        own = [each for each in rounds if each.load == label]
        for figure in FIGURES:
            ratios, others = [each.ratio(figure) for each in own], max(each.others for each in own)
            ratio, goal = median(ratios), GOALS.get((Load.parse(label).streams, figure))
            judged = goal is not None and others <= FOREIGN_MOST
            rows.append(
                {
                    "load": label,
                    "figure": figure,
                    "ratio": ratio,
                    "least": min(ratios),
                    "most": max(ratios),
                    "twice": median(each.twice(figure) for each in own),
                    "goal": goal,
                    "met": (ratio >= goal if figure == "output_tps" else ratio <= goal) if judged and goal else None,
                    "others": others,
                }
            )
    return rows


def cpu_of(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """A row for each load: microseconds of CPU time for a token, by process, the median of all rounds."""
    rows = []
    for label in dict.fromkeys(each.load for each in rounds):
        own = [each.cpu_s for each in rounds if each.load == label]
        spent = {process: median(1e6 * each[process] for each in own) for process in own[0]}
        rows.append({"load": label, "cpu_us_a_token": spent})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Aligned columns; of a load that other programs disturbed nothing is judged."""
    shown = [("load", "figure", "served over bare", "the same twice", "goal", "met")]
    for row in rows:
        met = {None: "", True: "yes", False: "no"}[row["met"]]
        if row["others"] > FOREIGN_MOST:
            met = f"void: others used {row['others']:.0%} of the cores"
        shown.append((
            row["load"],
            NAMES[row["figure"]],
            f"{row['ratio']:.3f} ({row['least']:.3f} to {row['most']:.3f})",
            f"{row['twice']:.3f}",
            "" if row["goal"] is None else f"{row['goal']:.2f}",
            met,
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in shown) for column in range(len(shown[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in shown]


def _prepared(arguments: argparse.Namespace, loads: Sequence[Load], folder: Path) -> Prepared:
    """The candidate, converted, with the room that the loads need.

    Raises:
        AutobackendError: there is none, or it cannot be made ready.
    """
    if arguments.rounds < 1 or arguments.requests < 1:
        raise UsageError("needs one round and one request at least")
    backends = [arguments.backend] if arguments.backend else []
    selection = choose(arguments.model, workload=loads[-1], backends=backends, allow_lossy=arguments.allow_lossy)
    room = room_for(
        selection,
        slots=max(load.streams for load in loads),
        context_tokens=max(load.prompt.high + load.answers.high for load in loads),
    )
    return prepare(selection, room, folder=folder, reporter=Silent(), threads=selection.threads)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.overhead", description=__doc__)
    parser.add_argument("model", help="what `autobackend serve` takes")
    parser.add_argument("--backend", default="", metavar="NAME", help="else the best one")
    parser.add_argument("--allow-lossy", action="store_true", help="it may be lossy")
    parser.add_argument("--rounds", type=int, default=4, help="A B B A at each load (4)")
    parser.add_argument(
        "--requests", type=int, default=4, help=f"in a run at one stream (4); {AT_EIGHT} times that at eight"
    )
    parser.add_argument("--nice", type=int, default=0, help="of the front, to see whether it helps (0)")
    parser.add_argument("--out", type=Path, default=Path("build/overhead.json"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

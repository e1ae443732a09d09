"""What it costs to always serve with one engine: candidates of several models as servers, beside the pick of `select`.

`python -m benchmarks.served prepare [MODEL ...]` converts and checks them, `measure` serves them under load within a
budget, `report` says what came of it. Each goes on from what the cache has. The machine must have nothing else to do.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.served.measure import measure, prepare
from benchmarks.served.recorded import Recorded, of_cache, of_results
from benchmarks.served.report import report
from benchmarks.served.tables import markdown, plain
from benchmarks.served.task import Task, levels, read_task
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.errors import AutobackendError, UsageError
from calibration.load.load import Load
from calibration.supervision.deadline import Deadline
from selector.screens.calibration.progress import Progress
from selector.screens.text import listing, width

MODELS = ("shape:smollm2-135m", "shape:smollm2-360m", "shape:qwen2.5-0.5b")
LENGTHS = "pp32:tg16"
STREAMS = "1,4,8"
REQUESTS = 24
"""Of a point: three for each of eight streams. `report` says how exact that is."""
BUDGET_S = 1500.0
CACHE = Path("build/served.db")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        loads = levels(arguments.load, _counts(arguments.streams))
        arguments.cache.parent.mkdir(parents=True, exist_ok=True)
        with Cache.open(arguments.cache) as cache:
            match arguments.step:
                case "report":
                    _report(arguments, loads, cache)
                case step:
                    missing = _serve(step, arguments, loads, cache)
                    print("\n".join(missing or ["nothing is missing"]))
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _serve(step: str, arguments: argparse.Namespace, loads: Sequence[Load], cache: Cache) -> list[str]:
    """Prepare or measure; returns what is missing.

    Raises:
        AutobackendError: a model cannot be read or served, or another calibration runs.
    """
    deadline = Deadline(time.monotonic() + arguments.budget if step == "measure" else None, time.monotonic)
    backends = arguments.backends.split(",") if arguments.backends else []
    tasks = [read_task(model, loads, cache, backends=backends) for model in arguments.models or MODELS]
    for task in tasks:
        print("\n".join(_told(task)), flush=True)
    store = ArtifactStore()
    with Progress(Console(stderr=True)) as progress:
        if step == "prepare":
            prepare(tasks, cache, store, progress, say=_say)
            return []
        return measure(tasks, cache, store, progress, deadline, requests=arguments.requests, say=_say)


def _report(arguments: argparse.Namespace, loads: Sequence[Load], cache: Cache) -> None:
    """Print what was recorded.

    Raises:
        UsageError: nothing was recorded under two of the loads.
        CacheError: the cache or a file cannot be read.
    """
    left_out: Mapping[str, Mapping[str, float]] = {}
    if arguments.results:
        recorded = _under(loads, of_results(arguments.results))
    else:
        if arguments.batches:
            with Cache.open(arguments.batches) as batches:
                recorded = _under(loads, of_cache(cache, batches=batches))
        else:
            recorded = _under(loads, of_cache(cache))
        models = dict.fromkeys(one.model for one in recorded)
        left_out = {model: read_task(model, loads, cache).left_out for model in models}
    if not recorded:
        raise UsageError(
            f"{arguments.results or cache.location} has no model that was served under two of"
            f" {', '.join(load.label for load in loads)}",
            "serve some: python -m benchmarks.served measure --help; or name other loads with --load and --streams",
        )
    sections = report(recorded, left_out)
    print(markdown(sections) if arguments.markdown else plain(sections, across=width()), end="")


def _under(loads: Sequence[Load], recorded: Sequence[Recorded]) -> list[Recorded]:
    """What was recorded under these loads, of models that took two of them at least."""
    kept = [replace(one, loads=tuple(load for load in one.loads if load in loads)) for one in recorded]
    return [one for one in kept if len(one.loads) > 1]


def _told(task: Task) -> list[str]:
    """Who is served, and who is not."""
    labels = [spec.label for spec in task.plan.launch_specs]
    lines = [f"{task.plan.spec.name}: {listing(labels)}"]
    if task.left_out:
        times = ", ".join(f"{label} {times:.1f}" for label, times in task.left_out.items())
        lines.append(f"  left out, predicted so many times slower than the best of the class: {times}")
    return lines


def _say(line: str) -> None:
    print(line, flush=True)


def _counts(text: str) -> list[int]:
    """`1,4,8`.

    Raises:
        UsageError: it is no list of numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"needs numbers of streams, as in {STREAMS}; found {text!r}") from None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.served", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    for name, says in (
        ("prepare", "convert, check and serve each candidate for a moment"),
        ("measure", "serve what the cache does not have yet"),
        ("report", "say what came of it"),
    ):
        step = steps.add_parser(name, help=says)
        step.add_argument("--cache", type=Path, default=CACHE, metavar="FILE", help=f"by default {CACHE}")
        step.add_argument("--load", default=LENGTHS, metavar="LENGTHS", help=f"of prompts and answers ({LENGTHS})")
        step.add_argument("--streams", default=STREAMS, metavar="N,N", help=f"streams of each load ({STREAMS})")
        if name == "report":
            step.add_argument("--results", type=Path, metavar="FOLDER", help="what hosts published, not the cache")
            step.add_argument("--batches", type=Path, metavar="FILE", help="a cache with static batches of the models")
            step.add_argument("--markdown", action="store_true", help="as a document has it")
            continue
        step.add_argument("models", nargs="*", metavar="MODEL", help=f"by default {' '.join(MODELS)}")
        step.add_argument("--backends", default="", metavar="NAME,NAME", help="only these, and all their variants")
        if name == "measure":
            step.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS", help=f"({BUDGET_S:g})")
            step.add_argument("--requests", type=int, default=REQUESTS, help=f"of a point, at most ({REQUESTS})")
    return parser.parse_args(argv)

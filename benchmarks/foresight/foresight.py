"""`python -m benchmarks.foresight`: leave hosts and models out of what ships, predict them, and write a page."""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.foresight.report import report
from benchmarks.foresight.study import run
from calibration.cache.cache import Cache
from calibration.whole_file import write_whole
from calibration.workload import STANDARD, Workload
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.predict.known.shipped import SHIPPED, shipped
from selector.predict.prediction import predict

PAGE = "foresight.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foresight", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="where the page goes")
    parser.add_argument("--processes", type=int, default=2, help="folds at once")
    options = parser.parse_args(arguments)
    folds = run(options.processes)
    page = report(folds, digest=digest(), command="python -m benchmarks.foresight", speed=speed())
    write_whole(options.out / PAGE, page, mode=0o644)
    print(page)
    return 0


def digest() -> str:
    """What tells one shipped file from another."""
    return hashlib.sha256(SHIPPED.read_bytes()).hexdigest()[:12]


def speed() -> dict[str, float]:
    """Seconds of a first answer in this process, and of the next ones."""
    spec, host = ModelSpec.read("shape:llama-3.2-1b"), HostSpec.detect()
    labels = sorted({timing.label for timing in shipped()})
    with tempfile.TemporaryDirectory() as folder, Cache.open(Path(folder) / "cache.db") as cache:

        def seconds(workload: Workload) -> float:
            began = time.perf_counter()
            predict(spec, host, labels, workload, cache=cache)
            return time.perf_counter() - began

        first = seconds(STANDARD["chat"])
        others = [seconds(replace(STANDARD["chat"], prompt_tokens=prompt)) for prompt in range(100, 400)]
    return {
        f"first answer, {len(labels)} candidates": first,
        "another workload of the same model (median)": median(others),
    }

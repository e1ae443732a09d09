"""Predicted beside measured peak of memory: of converting, loading and serving, for every candidate of many shapes.

`python -m benchmarks.memory_truth [MODEL...] [--backends A,B] [--out build/memory_truth.jsonl]`

A run that was stopped goes on: what stands in the file is not measured again. `--recorded` sets what hosts have
published beside the prediction, and starts no engine; `--report` prints the tables alone.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.memory_truth.cases import HELD_OUT, MODELS, WORKLOADS
from benchmarks.memory_truth.compared import Compared, compared, published, recorded, table
from benchmarks.memory_truth.measure import Line, measure
from calibration.errors import AutobackendError
from calibration.workload import Workload
from selector.host.spec import HostSpec

HOSTS = Path("results/hosts")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_truth", description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, help="names as in cases.py, their ends, or folders")
    parser.add_argument("--backends", default="", help="backends or variants, separated by commas")
    parser.add_argument("--workloads", default="", help="instead of those of cases.py, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("build/memory_truth.jsonl"))
    parser.add_argument("--keep", action="store_true", help="keep the conversions")
    parser.add_argument("--recorded", action="store_true", help="compare with results/hosts instead")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--each", action="store_true", help="also a line for each peak")
    arguments = parser.parse_args(argv)
    try:
        if arguments.recorded:
            _show(list(recorded(HOSTS)), each=arguments.each)
            return 0
        lines = _read(arguments.out)
        if not arguments.report:
            labels = tuple(label for label in arguments.backends.split(",") if label)
            workloads = tuple(Workload.parse(label) for label in arguments.workloads.split(",") if label) or WORKLOADS
            for model in map(_place, arguments.models):
                for line in measure(model, labels, workloads, lines, keep=arguments.keep):
                    lines.append(line)
                    _append(arguments.out, line)
                    print(_told(line), flush=True)
        here = HostSpec.detect()
        _show(list(compared(lines, published(HOSTS) | {here.identifier: here})), each=arguments.each)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _place(name: str) -> str:
    """Of the models in cases.py the one whose name ends so; else a folder or a shape."""
    return next((model for model in (*MODELS, *HELD_OUT) if model.endswith(name)), name)


def _read(file: Path) -> list[Line]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _append(file: Path, line: Line) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def _told(line: Line) -> str:
    what = f"{line['candidate']} of {line['model']}, {line.get('workload', 'converting')}"
    return f"{what}: {line['error']}" if "error" in line else f"{what}: {line['peak_bytes'] / 2**30:.2f} GiB"


def _show(ones: Sequence[Compared], *, each: bool) -> None:
    if each:
        for one in sorted(ones, key=lambda one: one.error):
            sizes = f"{one.predicted_bytes / 2**20:.0f} of {one.measured_bytes / 2**20:.0f} MiB"
            print(f"{one.error:+.0%}  {one.candidate}  {one.model}  {one.what}  {sizes}")
    print("\n".join(table(ones)))


if __name__ == "__main__":
    raise SystemExit(main())

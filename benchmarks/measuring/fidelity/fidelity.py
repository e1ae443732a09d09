"""TTFT and TPOT as our worker measures them beside each engine's own figures, in one run: within 3 %?

`python -m benchmarks.measuring.fidelity [--model shape:smollm2-135m] [--backends NAME ...] [--pairs 30] [--out build]`
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from calibration.backend import Job
from calibration.conversion.store import ArtifactStore
from calibration.errors import AutobackendError
from calibration.events import Silent
from calibration.launch.session import Session
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.device_lock import device_lock
from calibration.supervision.launch_spec import LaunchSpec, Limits
from calibration.worker.opening import Opening
from selector.planning.plan import Plan, plan
from selector.planning.subject import subject_of

ROOT = Path(__file__).resolve().parents[3]
GOAL = 0.03
CONTEXT, BATCH = 256, 4
"""Enough for the cells of benchmarks.measuring.fidelity.plain_loop."""
SOURCES = frozenset({"transformers", "onnxruntime", "ctranslate2", "openvino", "llamacpp", "vllm"})
"""Backends for which benchmarks.measuring.fidelity.own_figures knows other figures than ours."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        planned = plan(arguments.model, backends=arguments.backends)
        with device_lock(planned.host.device.name):
            rows = measure(planned, arguments.pairs)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    content = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "host": f"{planned.host.device.name}, {planned.host.cores} cores used",
        "model": planned.spec.name,
        "command": shlex.join(
            ["python", "-m", "benchmarks.measuring.fidelity", *(sys.argv[1:] if argv is None else argv)]
        ),
        "goal": GOAL,
        "rows": rows,
    }
    out = Path(arguments.out) / "fidelity.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))
    return 0


def measure(planned: Plan, pairs: int) -> list[dict[str, Any]]:
    """A row for each candidate, source and cell; the only row of a candidate that fails has `failed`."""
    store, rows = ArtifactStore(), []
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        session = Session(
            calibration_id="fidelity",
            subject=subject_of(planned, store, Silent()),
            cells=(),
            store=store,
            folder=Path(folder),
            reporter=Silent(),
            limits=Limits(),
            deadline=Deadline(None, time.monotonic),
        )
        for spec in chosen(planned.launch_specs):
            print(f"{spec.label} ...", file=sys.stderr, flush=True)
            rows += [{"candidate": spec.label, **row} for row in _compared(session, spec, pairs)]
    return rows


def chosen(candidates: Iterable[LaunchSpec]) -> list[LaunchSpec]:
    """The first exact variant of each backend, and of OpenVINO one for each of its schedulers."""
    kinds: set[tuple[str, Any]] = set()
    first: list[LaunchSpec] = []
    for spec in candidates:
        kind = (spec.candidate.backend, spec.variant.options.get("ATTENTION_BACKEND"))
        if spec.variant.lossy or kind in kinds or spec.candidate.backend not in SOURCES:
            continue
        kinds.add(kind)
        first.append(spec)
    return first


def _compared(session: Session, spec: LaunchSpec, pairs: int) -> list[dict[str, Any]]:
    subject, log = session.subject, session.folder / "prepare.log"
    log.touch()
    artifact = None
    if spec.variant.prepares:
        try:
            artifact = session.converter.convert(spec, log, session.deadline)
        except GivenUp as given_up:
            return [{"failed": given_up.trouble.message}]
    job = Job(
        model_dir=subject.model_dir,
        variant=spec.variant,
        artifact_dir=artifact.path if artifact else None,
        dtype=subject.dtype,
        vocab_size=subject.vocab_size,
        device=subject.device,
        threads=subject.threads,
        cpus=subject.cpus,
        max_context_tokens=CONTEXT,
        max_batch=BATCH,
    )
    opening = json.dumps(Opening(backend=spec.candidate.backend, job=job).request())
    threads = str(subject.threads)
    run = subprocess.run(
        [str(spec.python), "-m", "benchmarks.measuring.fidelity.own_figures", opening, str(pairs)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"},
    )
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        errors = run.stderr.strip().splitlines()
        return [{"failed": errors[-1] if errors else f"exit code {run.returncode}"}]
    rows: list[dict[str, Any]] = json.loads(lines[-1])
    return rows


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Aligned columns: ours over theirs with half the width of the median's interval; whether it is within 3 %."""
    shown = [("candidate", "beside", "cell", "TTFT", "TPOT", f"within {GOAL:.0%}")]
    for row in rows:
        if "failed" in row:
            shown.append((row["candidate"], f"failed: {row['failed']}", "", "", "", ""))
            continue
        ratios = [f"{row[f'{n}_ratio']:.3f} ± {row[f'{n}_ratio_spread']:.3f}" for n in ("ttft", "tpot")]
        # As it is shown, to a thousandth.
        beyond = [n.upper() for n in ("ttft", "tpot") if round(abs(row[f"{n}_ratio"] - 1), 3) > GOAL]
        verdict = f"no: {' and '.join(beyond)}" if beyond else "yes"
        shown.append((row["candidate"], row["source"], row["cell"], *ratios, verdict))
    widths = [max(len(line[i]) for line in shown if line[2]) for i in range(6)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in shown]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measuring.fidelity", description=__doc__)
    parser.add_argument("--model", default="shape:smollm2-135m", help="a shape or a folder with weights")
    parser.add_argument("--backends", nargs="*", default=(), metavar="NAME", help="only these backends or variants")
    parser.add_argument("--pairs", type=int, default=30, help="calls of ours and of theirs for each cell")
    parser.add_argument("--out", default="build", help="folder of fidelity.json")
    return parser.parse_args(argv)

"""What "always X" costs against what `select` picks, on workloads that were not calibrated.

`python -m benchmarks.study MODEL... [--budget SECONDS] [--out results] [--workloads LABELS]`

Candidates that the calibration measured are launched in two passes: in the first those that may be the best and the
first of each backend; in the second, in reverse order, the picks and those that the first pass left near the best. A
study that was stopped goes on where it ended.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.study.regret import PASSES, Case
from benchmarks.study.report import report
from benchmarks.study.task import CLASSES, Task, cases_of, e2e_s, read_task
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.environments.versions import POLICY
from calibration.errors import AutobackendError
from calibration.events import Silent
from calibration.launch.checker import Checker, no_reference
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.measurement import Check, Failure, Measurement, Outcome, Served, from_json, to_json
from calibration.supervision.deadline import Deadline
from calibration.supervision.device_lock import device_lock
from calibration.supervision.launch_spec import Limits, Skipped
from calibration.whole_file import write_whole
from calibration.workload import Workload
from selector.model.files.shape_library import shape_names
from selector.planning.subject import subject_of

WORKLOADS = "pp300:tg90:b1,pp900:tg20:b4,pp64:tg200:b2"


class Study:
    """All launches of one host; the file is written after each of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"models": {}}

    def outcomes(self, model: str) -> list[Outcome]:
        return [from_json(record) for record in self.content["models"].get(model, {}).get("launches", ())]

    def add(self, model: str, outcome: Outcome) -> None:
        self.content["models"].setdefault(model, {}).setdefault("launches", []).append(to_json(outcome))
        self.write()

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, json.dumps(self.content, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        workloads = tuple(Workload.parse(text) for text in arguments.workloads.split(","))
        with Cache.open() as cache:
            tasks = [read_task(_named(model), workloads, cache) for model in arguments.models]
            host = tasks[0].plan.host
            study = Study(Path(arguments.out) / "study" / f"{host.identifier}.json")
            deadline = None if arguments.budget is None else time.monotonic() + arguments.budget
            missing = [line for task in tasks for line in measure(task, study, deadline)]
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    study.content |= {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "host": f"{host.device.name}, {host.cores} cores used",
        "command": shlex.join(["python", "-m", "benchmarks.study", *(sys.argv[1:] if argv is None else argv)]),
        "policy": POLICY,
        "workloads": [w.label for w in workloads],
        "missing": missing,
    }
    cases: dict[str, list[Case]] = {name: [] for name in CLASSES}
    shown: dict[str, Any] = {}
    for task in tasks:
        outcomes = [o for o in study.outcomes(task.plan.spec.name) if _holds(o, task)]
        study.content["models"].setdefault(task.plan.spec.name, {}).update(_model_json(task))
        shown[task.plan.spec.name] = {**_model_json(task), "launches": [to_json(o) for o in outcomes]}
        for name, lossy in CLASSES.items():
            cases[name] += cases_of(task, outcomes, name, allow_lossy=lossy)
    study.write()
    page = study.file.with_suffix(".md")
    page.write_text(report({**study.content, "models": shown}, cases), encoding="utf-8")
    print(f"wrote {page} and {study.file}")
    for line in missing:
        print(f"missing: {line}")
    return 0


def measure(task: Task, study: Study, deadline: float | None) -> list[str]:
    """Launch what is missing, the second pass in reverse order.

    The calibration's verdicts on the outputs and its artifacts are used; its rows in the cache stay as they are.

    Returns:
        What could not be launched, a line each.
    """
    planned, name, store = task.plan, task.plan.spec.name, ArtifactStore()
    missing = [
        f"{name} {w.label}: needs a context of {w.context_tokens}; found {planned.spec.max_position}"
        for w in planned.workloads
        if w not in task.workloads
    ]
    took: dict[str, float] = {}
    with device_lock(planned.host.device.name), tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        unweighted = Path(name).exists() and not planned.spec.has_weights
        subject = subject_of(planned, store, Silent(), random_weights=unweighted)
        session = Session(
            calibration_id="study",
            subject=subject,
            cells=task.workloads,
            store=store,
            folder=Path(folder),
            reporter=Silent(),
            limits=Limits(),
            deadline=Deadline(deadline, time.monotonic),
        )
        agreements = {label: record.agreement for label, record in task.records.items()}
        checker = Checker(session=session, make_reference=no_reference, agreements=agreements)
        for number in PASSES:
            for spec in task.candidates if number == PASSES[0] else reversed(task.candidates):
                valid = [o for o in study.outcomes(name) if _holds(o, task)]
                cells = task.cells(spec.label) if number == PASSES[0] else task.again(spec.label, valid)
                launched = [o for o in valid if o.candidate == spec.candidate]
                failed = any(isinstance(o, Failure) for o in launched)
                if not cells or failed or any(o.round == number for o in launched):
                    continue
                left = None if deadline is None else deadline - time.monotonic()
                outcome: Outcome | Skipped = Skipped()
                if left is None or left > took.get(spec.label, 0.0):
                    began = time.monotonic()
                    launcher = Launcher(session=replace(session, cells=cells), checker=checker)
                    outcome = launcher.launch(spec, number).outcome
                    took[spec.label] = time.monotonic() - began
                if isinstance(outcome, Skipped) or not _whole(outcome, cells):
                    missing.append(f"{name} {spec.label} pass {number}: the budget was spent")
                    continue
                study.add(name, outcome)
                print(f"{name} pass {number} {spec.label}: {_line(outcome)}", flush=True)
    return missing


def _holds(outcome: Outcome, task: Task) -> bool:
    """Whether a launch is valid today: same host, model, versions and policy; of the first pass with all its cells."""
    environments = {spec.label: dict(spec.environment) for spec in task.candidates}
    label = outcome.candidate.label
    return (
        outcome.identity.shape == task.plan.identity.shape
        # Times are those of any model of the same shape; a failure is this config's.
        and (isinstance(outcome, Measurement) or outcome.identity.config == task.plan.identity.config)
        and outcome.policy == POLICY
        and dict(outcome.environment) == environments.get(label)
        and (outcome.round != PASSES[0] or _whole(outcome, task.cells(label)))
    )


def _whole(outcome: Outcome, cells: Iterable[Workload]) -> bool:
    """Whether every cell was timed; a failure counts as whole."""
    match outcome:
        case Failure():
            return True
        case Measurement():
            return set(cells) <= {c.workload for c in outcome.cells}
        case Check() | Served():
            return False


def _model_json(task: Task) -> dict[str, Any]:
    """What the JSON file has of a model beside its launches."""
    return {
        "lossy": sorted(task.lossy & task.records.keys()),
        "predicted_s": task.predicted,
        "left_out": task.left_out,
        "picks": task.picks,
        "environments": {spec.label: dict(spec.environment) for spec in task.candidates},
        "not_measured_by_the_calibration": [
            spec.label for spec in task.plan.launch_specs if spec.label not in task.records
        ],
    }


def _line(outcome: Outcome) -> str:
    match outcome:
        case Failure():
            return f"{outcome.kind} ({outcome.stage}): {outcome.message}"
        case Measurement():
            return ", ".join(f"{c.workload.label} {e2e_s(c.workload, c.ttft_s, c.tpot_s):.3f} s" for c in outcome.cells)
        case Check():
            return "checked, not timed"
        case Served():
            return "served under load, not timed"


def _named(model: str) -> str:
    """A shape of the library may be given by its bare name."""
    return f"shape:{model}" if model in shape_names() and not Path(model).exists() else model


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a shape, a folder or a .gguf file; calibrated before"
    )
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="stop in time and say what is missing")
    parser.add_argument("--out", default="results", help="folder of study/HOST.md and study/HOST.json")
    parser.add_argument("--workloads", default=WORKLOADS, help=f"by default {WORKLOADS}")
    return parser.parse_args(argv)

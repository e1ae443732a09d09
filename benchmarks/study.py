"""What "always X" costs against what `select` picks, on workloads that were not calibrated.

`python -m benchmarks.study MODEL... [--budget SECONDS] [--out results] [--workloads LABELS]`

Candidates that the calibration measured are launched in two passes, the second in reverse order: those that may be the
best, and the first of each backend; in the second those that the first left near the best, and the picks. Resumes what
it left.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.regret import PASSES, Case, slow, slower
from benchmarks.study_report import report
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.environments.versions import POLICY
from calibration.errors import AutobackendError, UsageError
from calibration.events import Silent
from calibration.launch.checker import Checker, no_reference
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.measurement import Check, Failure, Measurement, Outcome, from_json, to_json
from calibration.supervision.deadline import Deadline
from calibration.supervision.device_lock import device_lock
from calibration.supervision.launch_spec import LaunchSpec, Limits, Skipped
from calibration.workload import Workload
from selector import context as memo
from selector.answer import Source
from selector.evidence import evidence
from selector.model.shape_library import shape_names
from selector.planning.calibrate import subject_of
from selector.planning.plan import Plan, plan
from selector.ranking import Record, rank
from selector.selection import choose

WORKLOADS = "pp300:tg90:b1,pp900:tg20:b4,pp64:tg200:b2"
SLOW = 4.0
"""Left out, by name, is who is predicted to be more than regret.NEAR times slower than the best; the first of its
backend where it is more than SLOW times slower."""
CLASSES = {"equal precision": False, "lossy ones allowed": True}
"""Class: allow_lossy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A calibrated model, and what of it is to be timed."""

    plan: Plan
    records: dict[str, Record]
    """Candidate label: what the calibration measured, in the static order."""
    predicted: dict[str, dict[str, float]]
    """Workload label: candidate label: seconds."""
    left_out: dict[str, dict[str, float]]
    """Workload label: candidate label: predicted factor."""
    picks: dict[str, dict[str, str | None]]
    """Class: workload label: candidate label."""

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """Those that the model's context can hold."""
        most = self.plan.spec.max_position
        return tuple(w for w in self.plan.workloads if most == 0 or w.context_tokens <= most)

    @property
    def entries(self) -> list[LaunchSpec]:
        return [entry for entry in self.plan.entries if entry.label in self.records]

    @property
    def lossy(self) -> set[str]:
        return {entry.label for entry in self.plan.entries if entry.variant.lossy}

    def cells(self, label: str) -> tuple[Workload, ...]:
        """What a candidate is timed at."""
        return tuple(w for w in self.workloads if label not in self.left_out[w.label])

    def again(self, label: str, outcomes: Sequence[Outcome]) -> tuple[Workload, ...]:
        """Those of its cells that it is timed at in the second pass, too: where it was picked or may be the best.

        Args:
            outcomes: what the first pass found.
        """
        wanted = set()
        for name, allow_lossy in CLASSES.items():
            if not allow_lossy and label in self.lossy:
                continue
            for case in cases_of(self, outcomes, name, allow_lossy=allow_lossy):
                if case.pick == label or label not in slower(case.times):
                    wanted.add(case.workload)
        return tuple(w for w in self.cells(label) if w.label in wanted)


class Study:
    """The launches of one host so far, on the disk after each of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"models": {}}

    def outcomes(self, model: str) -> list[Outcome]:
        return [from_json(record) for record in self.told["models"].get(model, {}).get("launches", ())]

    def add(self, model: str, outcome: Outcome) -> None:
        self.told["models"].setdefault(model, {}).setdefault("launches", []).append(to_json(outcome))
        self.write()

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.told, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self.file)


def main(argv: Sequence[str] | None = None) -> int:
    asked = _arguments(argv)
    try:
        workloads = tuple(Workload.parse(text) for text in asked.workloads.split(","))
        with Cache.open() as cache:
            tasks = [task(_named(model), workloads, cache) for model in asked.models]
            host = tasks[0].plan.host
            study = Study(Path(asked.out) / "study" / f"{host.identifier}.json")
            deadline = None if asked.budget is None else time.monotonic() + asked.budget
            missing = [line for one in tasks for line in measure(one, study, deadline)]
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    study.told |= {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "host": f"{host.device.name}, {host.cores} cores used",
        "command": shlex.join(["python", "-m", "benchmarks.study", *(sys.argv[1:] if argv is None else argv)]),
        "policy": POLICY,
        "workloads": [w.label for w in workloads],
        "missing": missing,
    }
    cases: dict[str, list[Case]] = {name: [] for name in CLASSES}
    shown: dict[str, Any] = {}
    for one in tasks:
        outcomes = [o for o in study.outcomes(one.plan.spec.name) if _holds(o, one)]
        study.told["models"].setdefault(one.plan.spec.name, {}).update(_told(one))
        shown[one.plan.spec.name] = {**_told(one), "launches": [to_json(o) for o in outcomes]}
        for name, lossy in CLASSES.items():
            cases[name] += cases_of(one, outcomes, name, allow_lossy=lossy)
    study.write()
    page = study.file.with_suffix(".md")
    page.write_text(report({**study.told, "models": shown}, cases), encoding="utf-8")
    print(f"wrote {page} and {study.file}")
    for line in missing:
        print(f"missing: {line}")
    return 0


def task(model: str, workloads: tuple[Workload, ...], cache: Cache) -> Task:
    """Read what the calibration knows; nothing is timed yet.

    Raises:
        UsageError: the model was not calibrated here with today's versions, or a workload is one of its cells.
    """
    planned = plan(model, workloads=workloads, allow_lossy=True)
    known = evidence(cache, planned.identity, memo.environments(planned.host))
    records = {e.label: known.measured[e.label] for e in planned.entries if e.label in known.measured}
    if not records:
        raise UsageError(
            f"{model} was not calibrated here with today's versions",
            f"calibrate it: autobackend calibrate {model} --allow-lossy",
        )
    cells = {cell for record in records.values() for launch in record.launches for cell in launch.cells}
    if seen := sorted(w.label for w in cells.intersection(workloads)):
        raise UsageError(
            f"needs workloads that were not calibrated; found {', '.join(seen)} among the cells of {model}"
        )
    lossy = {e.label for e in planned.entries if e.variant.lossy}
    predicted = {w.label: {r.candidate.label: r.e2e_s for r in rank(records.values(), w)} for w in workloads}
    picks: dict[str, dict[str, str | None]] = {name: {} for name in CLASSES}
    for name, allow_lossy in CLASSES.items():
        for workload in workloads:
            try:
                found = choose(model, workload=workload, cache=cache, host=planned.host, allow_lossy=allow_lossy)
            except AutobackendError:
                picks[name][workload.label] = None
                continue
            measured = found.source is Source.MEASURED
            picks[name][workload.label] = found.candidate.label if measured else None
    return Task(
        plan=planned,
        records=records,
        predicted=predicted,
        left_out={label: slow(times, lossy, SLOW) for label, times in predicted.items()},
        picks=picks,
    )


def measure(one: Task, study: Study, deadline: float | None) -> list[str]:
    """Launch what is missing, the second pass in reverse order; says what it could not do.

    The calibration's verdicts on the outputs are taken over, its rows stay as they are, its artifacts are used.
    """
    planned, name, store = one.plan, one.plan.spec.name, ArtifactStore()
    missing = [
        f"{name} {w.label}: needs a context of {w.context_tokens}; found {planned.spec.max_position}"
        for w in planned.workloads
        if w not in one.workloads
    ]
    took: dict[str, float] = {}
    with device_lock(planned.host.device.name), tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        unweighted = Path(name).exists() and not planned.spec.has_weights
        subject = subject_of(planned, store, Silent(), random_weights=unweighted)
        session = Session(
            calibration_id="study",
            subject=subject,
            cells=one.workloads,
            store=store,
            folder=Path(folder),
            reporter=Silent(),
            limits=Limits(),
            deadline=Deadline(deadline, time.monotonic),
        )
        agreements = {label: record.last.agreement for label, record in one.records.items()}
        checker = Checker(session=session, make_reference=no_reference, agreements=agreements)
        for number in PASSES:
            for entry in one.entries if number == PASSES[0] else reversed(one.entries):
                held = [o for o in study.outcomes(name) if _holds(o, one)]
                cells = one.cells(entry.label) if number == PASSES[0] else one.again(entry.label, held)
                known = [o for o in held if o.candidate == entry.candidate]
                failed = any(isinstance(o, Failure) for o in known)
                if not cells or failed or any(o.round == number for o in known):
                    continue
                left = None if deadline is None else deadline - time.monotonic()
                outcome: Outcome | Skipped = Skipped()
                if left is None or left > took.get(entry.label, 0.0):
                    began = time.monotonic()
                    launcher = Launcher(session=replace(session, cells=cells), checker=checker)
                    outcome = launcher.launch(entry, number).outcome
                    took[entry.label] = time.monotonic() - began
                if isinstance(outcome, Skipped) or not _whole(outcome, cells):
                    missing.append(f"{name} {entry.label} pass {number}: the budget was spent")
                    continue
                study.add(name, outcome)
                print(f"{name} pass {number} {entry.label}: {_seconds_told(outcome)}", flush=True)
    return missing


def cases_of(one: Task, outcomes: Sequence[Outcome], name: str, *, allow_lossy: bool) -> list[Case]:
    """One case a workload, of the candidates that compete in this class."""
    competing = {e.label for e in one.entries} - (set() if allow_lossy else one.lossy)
    cases = []
    for workload in one.workloads:
        times: dict[str, dict[int, float]] = {}
        for outcome in outcomes:
            if isinstance(outcome, Measurement) and outcome.candidate.label in competing:
                for cell in outcome.cells:
                    if cell.workload == workload:
                        seconds = e2e_s(workload, cell.ttft_s, cell.tpot_s)
                        times.setdefault(outcome.candidate.label, {})[outcome.round] = seconds
        cases.append(
            Case(
                model=one.plan.spec.name,
                workload=workload.label,
                times=times,
                pick=one.picks[name][workload.label],
                left_out={k: v for k, v in one.left_out[workload.label].items() if k in competing},
            )
        )
    return cases


def e2e_s(workload: Workload, ttft_s: float, tpot_s: float | None) -> float:
    """TTFT + (n - 1) * TPOT for n output tokens."""
    return ttft_s + (workload.output_tokens - 1) * (tpot_s or 0.0)


def _holds(outcome: Outcome, one: Task) -> bool:
    """A launch that counts today: the same host, model, versions and policy; of the first pass with all its cells."""
    environments = {entry.label: dict(entry.environment) for entry in one.entries}
    label = outcome.candidate.label
    return (
        outcome.identity == one.plan.identity
        and outcome.policy == POLICY
        and dict(outcome.environment) == environments.get(label)
        and (outcome.round != PASSES[0] or _whole(outcome, one.cells(label)))
    )


def _whole(outcome: Outcome, cells: Iterable[Workload]) -> bool:
    """No part of what was asked for was cut off; a failure is an answer."""
    match outcome:
        case Failure():
            return True
        case Measurement():
            return set(cells) <= {c.workload for c in outcome.cells}
        case Check():
            return False


def _told(one: Task) -> dict[str, Any]:
    """What stands in the JSON beside a model's launches."""
    return {
        "lossy": sorted(one.lossy & one.records.keys()),
        "predicted_s": one.predicted,
        "left_out": one.left_out,
        "picks": one.picks,
        "environments": {entry.label: dict(entry.environment) for entry in one.entries},
        "not_measured_by_the_calibration": [e.label for e in one.plan.entries if e.label not in one.records],
    }


def _seconds_told(outcome: Outcome) -> str:
    match outcome:
        case Failure():
            return f"{outcome.kind} ({outcome.stage}): {outcome.message}"
        case Measurement():
            return ", ".join(f"{c.workload.label} {e2e_s(c.workload, c.ttft_s, c.tpot_s):.3f} s" for c in outcome.cells)
        case Check():
            return "checked, not timed"


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


if __name__ == "__main__":
    raise SystemExit(main())

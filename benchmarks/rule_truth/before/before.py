"""Judges recorded pairs by the rules of an earlier commit: its code is unpacked and runs in a process of its own."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rule_truth.cases.kept import Kept, restore
from benchmarks.rule_truth.judging import Pair
from benchmarks.rule_truth.stand_ins import GPU, KERNELS
from benchmarks.rule_truth.trial import WORKLOAD
from benchmarks.rule_truth.truth import Trial
from calibration.errors import UsageError
from selector.host.spec import HostSpec

ROOT = Path(__file__).resolve().parents[3]
NO_VARIANT = "the backend had no such variant"


def judged_before(
    commit: str, trials: Sequence[Trial], cases: Mapping[str, Kept], gpu: HostSpec | None, scratch: Path
) -> list[Pair]:
    """Each trial beside what the rules of the commit said.

    Args:
        cases: by digest.
        gpu: the host of LMDeploy's engines; None where no trial is of theirs.
        scratch: a folder for the code and the cases.

    Raises:
        UsageError: there is no such commit, or its code cannot judge.
    """
    keys = list(dict.fromkeys(map(_key, trials)))
    places = {
        config: str(restore(cases[config], scratch / f"then-{config}"))
        for config in dict.fromkeys(key[0] for key in keys)
    }
    device = {
        name: getattr(GPU, name) for name in ("kind", "name", "memory_bytes", "free_bytes", "capability", "driver")
    }
    wishes = {
        "workload": WORKLOAD.label,
        "device": device,
        "pythons": {name: str(gpu.installations[name].python) for name in KERNELS} if gpu else {},
        "cases": [{"place": places[config], "gpu": on_gpu} for config, on_gpu in keys],
    }
    answers = dict(zip(keys, _ask(commit, wishes, scratch), strict=True))
    return [Pair(trial=trial, reasons=_reasons(answers[_key(trial)], trial.candidate)) for trial in trials]


def _key(trial: Trial) -> tuple[str, bool]:
    """The case, and whether it is judged for the host with a GPU."""
    return trial.config, trial.candidate.partition(":")[0] in KERNELS


def _reasons(answer: Mapping[str, Sequence[str]] | str, label: str) -> tuple[str, ...]:
    match answer:
        case str(problem):
            return (f"cannot be read: {problem}",)
        case reasons:
            return tuple(reasons.get(label, [NO_VARIANT]))


def _ask(commit: str, wishes: object, scratch: Path) -> list[dict[str, list[str]] | str]:
    tree, file = scratch / "code", scratch / "wishes.json"
    file.write_text(json.dumps(wishes), encoding="utf-8")
    packed = subprocess.run(
        ["git", "archive", commit, "selector", "calibration"],  # noqa: S607  the user's git
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    if packed.returncode:
        raise UsageError(f"git has no commit {commit}", "name one of `git log`")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    script = Path(__file__).with_name("judge_then.py")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(file)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        check=False,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            f"the code of {commit} cannot judge: {last}", "name a commit with the rules' present interface"
        )
    answers: list[dict[str, list[str]] | str] = json.loads(run.stdout)
    return answers

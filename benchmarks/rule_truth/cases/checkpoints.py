"""The files of a case: written once, by the verb of a worker that also writes random weights for calibrations."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rule_truth.cases.architectures import MOST_PARAMETERS
from benchmarks.rule_truth.cases.cases import Case
from benchmarks.rule_truth.cases.quant_formats import STANDS_FOR
from calibration.errors import ModelError
from calibration.supervision.replies import Trouble
from calibration.supervision.supervisor import Worker
from calibration.supervision.workers import worker_variables

ROOT = Path(__file__).resolve().parents[3]
WRITE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A case on the disk."""

    place: Path
    """Its folder, or its .gguf file."""
    stands_for: Path | None
    """Of a quantised one the plain checkpoint that it stands for, where that was written too."""


@dataclass(slots=True, kw_only=True)
class Checkpoints:
    """The folder of the cases' files."""

    root: Path
    python: Path
    """Interpreter of the transformers backend."""
    memory_bytes: int
    _worker: Worker | None = field(default=None)

    def write(self, case: Case) -> Written:
        """The case's files.

        Raises:
            ModelError: transformers or the quant format's writer cannot make it; another run does not try again.
        """
        folder = self.root / f"{case.name}-{case.digest}"
        problem = self.root / f"{folder.name}.problem"
        if problem.exists():
            raise ModelError(problem.read_text(encoding="utf-8"))
        stands_for = self.root / f"{folder.name}.{STANDS_FOR}"
        if not folder.exists():
            try:
                self._write(case, folder, stands_for)
            except ModelError as error:
                self.root.mkdir(parents=True, exist_ok=True)
                problem.write_text(error.message, encoding="utf-8")
                raise
        place = next(folder.glob("*.gguf"), folder)
        return Written(place=place, stands_for=stands_for if stands_for.exists() else None)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.__exit__(None, None, None)
            self._worker = None

    def _write(self, case: Case, folder: Path, stands_for: Path) -> None:
        if case.problem:
            raise ModelError(case.problem)
        scratch = self.root / f"{folder.name}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        config, made = scratch / "config", scratch / "plain"
        config.mkdir(parents=True)
        (config / "config.json").write_text(json.dumps(dict(case.content), indent=1), encoding="utf-8")
        check_size(config)
        answer = self._asked().ask(
            "checkpoint", timeout_s=WRITE_S, config_dir=str(config), destination=str(made), seed=0
        )
        if isinstance(answer, Trouble):
            self.close()
            raise ModelError(answer.message)
        if case.quant:
            source, made = made, scratch / "quantised"
            _quantise(case.quant, source, made)
            if (scratch / STANDS_FOR).exists():
                shutil.rmtree(stands_for, ignore_errors=True)
                (scratch / STANDS_FOR).rename(stands_for)
        made.rename(folder)
        shutil.rmtree(scratch)

    def _asked(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(
                self.python,
                log=self.root / "checkpoints.log",
                memory_limit_bytes=self.memory_bytes,
                variables=worker_variables(1),
            )
        return self._worker


def check_size(config_dir: Path) -> None:
    """Raise ModelError where the model is not small, or transformers cannot build it."""
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(config_dir)
        model_class = getattr(transformers, config.architectures[0])
        with torch.device("meta"):
            parameters = sum(p.numel() for p in model_class._from_config(config).parameters())  # noqa: SLF001  as random_weights.py
    except Exception as error:
        raise ModelError(f"transformers cannot build it: {type(error).__name__}: {error}") from error
    if parameters > MOST_PARAMETERS:
        raise ModelError(f"needs at most {MOST_PARAMETERS / 1e6:.0f} M parameters; found {parameters / 1e6:.0f} M")


def _quantise(quant: str, source: Path, destination: Path) -> None:
    """Write a quant format in a process of its own, which frees its memory.

    Raises:
        ModelError: it cannot be written.
    """
    command = [sys.executable, "-m", "benchmarks.rule_truth.cases.quant_formats", quant, str(source), str(destination)]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"{quant} cannot be written: {last}")

"""Verifies a backend's virtual environment: a tiny model with random weights runs there as in a calibration."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Job, Variant
from calibration.checkpoints.random_weights import SEED, checkpoint_key
from calibration.conversion.store import ArtifactStore
from calibration.environments.distributions import normalise
from calibration.environments.venv import Verified
from calibration.errors import InstallError
from calibration.supervision.replies import Reply
from calibration.supervision.supervisor import Worker
from calibration.supervision.workers import worker_variables
from calibration.worker.opening import Opening
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec, Installation
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict, judge

NEW_TOKENS = 4
PROMPT = (5, 6, 7, 8, 9, 10, 11, 12)
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "torch_dtype": "bfloat16",
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1024, "max_position_embeddings": 512, "hidden_act": "silu",
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
    "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
"""The tiny model: a Llama of two layers, with heads of a width for which every engine has kernels."""

_CHECKPOINT_S, _PREPARE_S, _LOAD_S, _ANSWER_S = 300.0, 600.0, 600.0, 120.0
_MAKERS = ("torch", "transformers")
_WHERE_IT_RUNS = frozenset({"device_kind", "compute_capability", "machine_code", "instruction_set"})
"""Rules that no installed package can mend."""


def unfit(backend: Backend, host: HostSpec) -> list[str]:
    """Why a backend cannot run on this host, whatever is installed; empty where it can."""
    verdicts = _verdicts(backend, host)
    each = [
        [reason.text for reason in verdict.reasons if reason.rule in _WHERE_IT_RUNS]
        for verdict in verdicts
        if not backend.variant(verdict.candidate.variant).devices
        or host.device.kind in backend.variant(verdict.candidate.variant).devices
    ]
    return [] if any(not reasons for reasons in each) else list(dict.fromkeys(r for reasons in each for r in reasons))


def usable(backend: Backend, host: HostSpec) -> bool:
    """Whether some variant of the backend runs the tiny model here with what is installed now."""
    return any(verdict.legal for verdict in _verdicts(backend, host))


def verify(backend: Backend, python: Path, host: HostSpec, *, log: Path, source: str = "") -> Verified:
    """Let the backend generate NEW_TOKENS tokens with the tiny model, in a given interpreter.

    Args:
        host: its device runs the model.
        log: takes what the engine prints.
        source: the file of a backend of another package; empty for our own.

    Raises:
        InstallError: no variant can run the model there, with every reason; or it fails, with the engine's reason.
        ArtifactError: the tiny model cannot be written.
    """
    began = time.monotonic()
    installation = Installation.detect(python)
    there = replace(host, installations={**host.installations, backend.name: installation})
    verdicts = _verdicts(backend, there)
    verdict = next((v for v in verdicts if v.legal and not v.left_out), None)
    if verdict is None:
        reasons = dict.fromkeys(r.text for v in verdicts for r in v.reasons) or dict.fromkeys(
            v.left_out for v in verdicts
        )
        raise InstallError("\n  ".join([f"{backend.name} would not run in {python}", *reasons]))
    variant = backend.variant(verdict.candidate.variant)
    model = _checkpoint(there, python, log)
    with tempfile.TemporaryDirectory(prefix="autobackend-") as scratch:
        run = _Run(backend, variant, python, there, model=model, log=log, source=source, scratch=Path(scratch))
        tokens = run.answer()
    if len(tokens) != NEW_TOKENS or not all(0 <= token < int(str(MODEL["vocab_size"])) for token in tokens):
        raise InstallError(f"{verdict.candidate.label} should generate {NEW_TOKENS} tokens; it gave {tokens}")
    return Verified(candidate=verdict.candidate.label, tokens=tokens, seconds=time.monotonic() - began, at=time.time())


class _Run:
    """One variant in one interpreter: prepare, load, answer."""

    def __init__(
        self,
        backend: Backend,
        variant: Variant,
        python: Path,
        host: HostSpec,
        *,
        model: Path,
        log: Path,
        source: str,
        scratch: Path,
    ) -> None:
        self._backend, self._variant, self._python, self._host = backend, variant, python, host
        self._model, self._log, self._source, self._scratch = model, log, source, scratch

    def answer(self) -> tuple[int, ...]:
        """Raises InstallError where a step fails."""
        converted = self._scratch / "converted"
        if self._variant.prepares:
            converted.mkdir()
            with self._worker() as worker:
                self._open(worker, None)
                self._ask(worker, "prepare", _PREPARE_S, destination=str(converted))
        with self._worker() as worker:
            self._open(worker, converted if self._variant.prepares else None)
            self._ask(worker, "load", _LOAD_S)
            answer = self._ask(
                worker,
                "answer",
                _ANSWER_S,
                prompts=[PROMPT],
                groups=[[0]],
                new_tokens=NEW_TOKENS,
                continuations=None,
                rows_file=str(self._scratch / "rows"),
            )
            self._ask(worker, "close", 30)
        return tuple(answer["tokens"][0][0])

    def _worker(self) -> Worker:
        return _worker(self._python, self._host, self._log)

    def _open(self, worker: Worker, converted: Path | None) -> None:
        host = self._host
        job = Job(
            model_dir=self._model,
            variant=self._variant,
            artifact_dir=converted,
            dtype=str(MODEL["dtype"]),
            vocab_size=int(str(MODEL["vocab_size"])),
            device=host.device.kind,
            threads=host.cores,
            cpus=host.bound_cpus,
            max_context_tokens=64,
            max_batch=1,
        )
        self._ask(worker, "open", 60, **Opening(backend=self._backend.name, job=job, source=self._source).request())

    def _ask(self, worker: Worker, verb: str, timeout_s: float, **fields: Any) -> Mapping[str, Any]:
        answer = worker.ask(verb, timeout_s=timeout_s, **fields)
        if isinstance(answer, Reply):
            return answer.fields
        label = f"{self._backend.name}:{self._variant.name}"
        raise InstallError(
            f"{label} was installed but does not run: {answer.kind} in {verb}: {answer.message}",
            f"what it printed: {self._log}",
        )


def _verdicts(backend: Backend, host: HostSpec) -> tuple[Verdict, ...]:
    """The verdicts on the tiny model, whose weights need not be written for that."""
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
        model = replace(ModelSpec.read(folder), has_weights=True)
        workload = Workload(prompt_tokens=len(PROMPT), output_tokens=NEW_TOKENS)
        return judge(model, host, Demand.of(workload=workload), {backend.name: backend})


def _checkpoint(host: HostSpec, python: Path, log: Path) -> Path:
    """The tiny model's folder, written once by an interpreter that has torch and transformers."""

    def build(destination: Path) -> None:
        maker = next(_makers(host, python), None)
        if maker is None:
            raise InstallError(
                "needs torch and transformers in some interpreter, to write a tiny model that verifies the environment;"
                " found none",
                "autobackend backends install transformers",
            )
        with _worker(maker, host, log) as worker:
            made = worker.ask(
                "checkpoint", timeout_s=_CHECKPOINT_S, config_dir=str(config), destination=str(destination), seed=SEED
            )
        if not isinstance(made, Reply):
            raise InstallError(f"{maker} could not write a tiny model: {made.message}", f"what it printed: {log}")

    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        config = Path(folder)
        (config / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
        return ArtifactStore().make(checkpoint_key(config, "tiny model of backends install"), build).path


def _makers(host: HostSpec, python: Path) -> Iterator[Path]:
    own = Installation.detect(Path(sys.executable))
    for installation in (Installation.detect(python), own, *host.installations.values()):
        if all(normalise(package) in installation.versions for package in _MAKERS):
            yield installation.python


def _worker(python: Path, host: HostSpec, log: Path) -> Worker:
    """Raises InstallError where the interpreter cannot be started."""
    variables = worker_variables(host.cores)
    try:
        return Worker(python, log=log, memory_limit_bytes=host.memory_bytes, variables=variables)
    except OSError as error:
        raise InstallError(f"{python} cannot be started: {error.strerror or error}") from error

"""Loads checkpoints with TurboMind on stub libraries, each in a child process: a failed check in C++ aborts.

Run as a program: cases as JSON lines on stdin, an outcome as a JSON line on stdout for each. Everything slow is
imported once and then forked, so that a case costs a fraction of a second.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TextIO

CASE_SECONDS = 60
ROOT = Path(__file__).resolve().parents[3]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A checkpoint on a device."""

    name: str
    model_dir: str
    capability: tuple[int, int]
    dtype: str = "bfloat16"
    new_tokens: int = 3
    tensor_parallel: int = 1
    variant: str = "default"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case."""

    name: str
    end: str
    """`ok`; `raised`: an exception; `aborted`: a signal; `hung`."""
    detail: str = ""
    """The exception, or the signal and what the library said."""
    tokens: tuple[tuple[int, ...], ...] = ()
    unread: tuple[str, ...] = ()
    """Tensors of the checkpoint that were never read: dropped ones make a wrong model."""


def run(cases: Iterable[Case]) -> dict[str, Outcome]:
    """Run the cases with this interpreter; outcomes by the case's name."""
    asked = "".join(json.dumps(dataclasses.asdict(case)) + "\n" for case in cases)
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(Path(__file__).resolve())],
            input=asked,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            check=False,
        )
        log.seek(0)
        if done.returncode:
            raise RuntimeError(f"cases.py ended with {done.returncode}: {log.read()[-2000:]}")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        record["name"]: Outcome(
            **{**record, "tokens": tuple(map(tuple, record["tokens"])), "unread": tuple(record["unread"])}
        )
        for record in found
    }


def main() -> None:
    """Serve stdin."""
    # The library logs to fd 1: the answers go to a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, str(ROOT))
    # One try of one variant of each kernel: the tuner's times mean nothing here.
    os.environ["TM_GEMM_TUNE"] = "max_splits=1,max_waves=1,min_iter=1,max_iter=1,top_k=1"
    from tests.lmdeploy.stand_ins import turbomind_stubs

    turbomind_stubs.install()
    import torch
    from lmdeploy import tokenizer
    from lmdeploy.turbomind import converter, model_loader  # noqa: F401

    torch.set_num_threads(1)
    # lmdeploy/tokenizer.py:395: gpt-oss wants a vocabulary from the network, which token ids do not need.
    tokenizer.GptOssTokenizer = tokenizer.HuggingFaceTokenizer
    for line in sys.stdin:
        case = Case(**json.loads(line))
        json.dump(dataclasses.asdict(_fork(case)), answers)
        answers.write("\n")
        answers.flush()


def _fork(case: Case) -> Outcome:
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryFile("w+") as answer:
        child = os.fork()
        if child == 0:
            _child(case, log, answer)
        until = time.monotonic() + CASE_SECONDS
        done, status = os.waitpid(child, os.WNOHANG)
        while not done and time.monotonic() < until:
            time.sleep(0.01)
            done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(name=case.name, end="hung", detail=f"after {CASE_SECONDS} s")
        if os.WIFSIGNALED(status):
            log.seek(0)
            fatal = [line.partition("] ")[2] for line in log if line.startswith("[TM][FATAL]")]
            name = signal.Signals(os.WTERMSIG(status)).name
            return Outcome(name=case.name, end="aborted", detail=f"{name}: {fatal[0].strip() if fatal else 'no word'}")
        answer.seek(0)
        return Outcome(name=case.name, **json.load(answer))


def _child(case: Case, log: TextIO, answer: TextIO) -> None:
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        found = _drive(case)
    except Exception as error:  # noqa: BLE001  whatever it raises is the outcome
        traceback.print_exc()
        found = {"end": "raised", "detail": f"{type(error).__name__}: {error}"}
    json.dump(found, answer)
    answer.flush()
    os._exit(0)


def _drive(case: Case) -> dict[str, Any]:
    """Load by our adapter, generate for two prompts at once, close."""
    from calibration.backend import Job
    from calibration.backends.turbomind.adapter import TurboMind
    from tests.lmdeploy.stand_ins import turbomind_stubs

    turbomind_stubs.set_device((case.capability[0], case.capability[1]))
    checkpoint = _watched_checkpoint()
    backend = TurboMind()
    job = Job(
        model_dir=Path(case.model_dir),
        # A short prefill: fewer shapes for the warm-up to tune every kernel for.
        variant=dataclasses.replace(backend.variant(case.variant), options={"max_prefill_token_num": 64}),
        artifact_dir=None,
        dtype=case.dtype,
        vocab_size=320,
        device="cuda",
        threads=1,
        max_context_tokens=128,
        max_batch=2,
        tensor_parallel=case.tensor_parallel,
    )
    engine = backend.load(job)
    made = engine.generate([[7, 8, 9, 10], [11, 12, 13, 14]], case.new_tokens)
    engine.close()
    return {"end": "ok", "tokens": made.tokens, "unread": sorted(checkpoint.names - checkpoint.read)}


def _watched_checkpoint() -> Any:
    """The checkpoint's reader, remembering which tensors were there and which were asked for."""
    from lmdeploy.turbomind import checkpoint

    class Watched(checkpoint.SafetensorsCheckpoint):  # checkpoint.py:178
        names: ClassVar[set[str]] = set()
        read: ClassVar[set[str]] = set()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.names.update(self._data)

        def get(self, key: str, index: int | None = None) -> Any:
            self.read.add(key)
            return super().get(key, index)

        def pop(self, key: str, index: int | None = None) -> Any:
            self.read.add(key)
            return super().pop(key, index)

    checkpoint.SafetensorsCheckpoint = Watched
    return Watched


if __name__ == "__main__":
    main()

"""The check of what is served, of real engines: their Streams driven step by step, or a server asked over HTTP."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.backend import Backend
from calibration.check.agreement import NEW_TOKENS, Answers, rounding_of
from calibration.conversion.store import ArtifactStore
from calibration.engine.streams import Finish, Request, Streams
from calibration.events import Silent
from calibration.launch.checker import Checker
from calibration.launch.session import Session
from calibration.measurement import Agreement, Candidate, Identity
from calibration.registry import find
from calibration.served.asking import ask_at_once
from calibration.served.check import ServedChecker
from calibration.served.place import AskAtOnce, AtOnce, Hold, Server, Untold, Wanted
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import Limits, Subject
from calibration.worker.main import _Server
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.planning.plan import launch_spec_of
from tests.engines import tiny_models
from tests.engines.tiny_configs import VOCAB

HOLD = Hold(slots=4, context_tokens=448, threads=1)
"""Room for a prompt that is read in pieces, with its answer."""
CELLS = (Workload(prompt_tokens=200, output_tokens=64, batch=4),)
"""Long enough for a long prompt of 400 tokens."""

Plant = Callable[[Streams], None]
"""Makes streams that were loaded go wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A server as a calibration knows it."""

    url: str = ""
    key: str = ""
    served_name: str = "model"
    pid: int = 0
    load_s: float = 0.0

    def ended(self) -> str:
        return ""


def session_of(folder: Path) -> Session:
    """As of a calibration of a checkpoint."""
    identity = Identity(
        architecture="",
        quant="none",
        device="cpu",
        fingerprint="",
        dtype="float32",
        device_count=1,
        host="",
    )
    subject = Subject(
        name="tiny",
        model_dir=folder,
        weights_identity="",
        identity=identity,
        dtype=tiny_models.job(folder, find("transformers"), "eager").dtype,
        vocab_size=VOCAB,
        device="cpu",
        threads=1,
        memory_limit_bytes=8 << 30,
    )
    return Session(
        calibration_id="c",
        subject=subject,
        cells=CELLS,
        store=ArtifactStore(folder.parent / "artifacts"),
        folder=folder,
        reporter=Silent(),
        limits=Limits(),
        deadline=Deadline(at=None, clock=time.monotonic),
    )


def reference_of(folder: Path) -> Answers:
    """transformers in float32 on the prompts of such a calibration; of a model in 16 bits with its rounding error."""
    transformers = find("transformers")
    asked = replace(tiny_models.job(folder, transformers, "eager-fp32"), max_context_tokens=HOLD.context_tokens)
    server, rows_file = _Server(), folder / "at-once.f32"
    prompts = session_of(folder).check_prompts()
    assert [len(prompt) for prompt in prompts] == [24, 24, 96, 400]
    server.engine = transformers.load(asked)
    told = server.do_refer(prompts=prompts, new_tokens=NEW_TOKENS, rows_file=str(rows_file))
    exact = Answers.of_reference(told["paths"], rows_file, told["rows"])
    if asked.dtype == "float32":
        return exact
    server.engine = transformers.load(replace(asked, variant=replace(asked.variant, precision="model")))
    rounded = server.do_answer(
        prompts=prompts,
        groups=[],
        new_tokens=NEW_TOKENS,
        continuations=[path[:-1] for path in told["paths"]],
        rows_file=str(folder / "at-once-rounded.f32"),
    )
    rows, width = rounded["rows"]
    return replace(exact, rounding=rounding_of(exact, folder / "at-once-rounded.f32", (rows, width)))


def found(ask: AskAtOnce, label: str, folder: Path, reference: Answers, at: Server | None = None) -> Agreement:
    """The verdict on a candidate that is asked so."""
    backend, _, variant = label.partition(":")
    session = session_of(folder)
    checker = Checker(session=session, make_reference=lambda _: reference)
    spec = launch_spec_of(Candidate(backend=backend, variant=variant), HostSpec.detect())
    checks = ServedChecker(session=session, reporter=Silent(), checker=checker, ask=ask)
    return checks.check(spec, HOLD, at or At(), session.deadline)


def found_at(url: str, name: str, label: str, folder: Path, reference: Answers) -> Agreement:
    """The verdict on a server."""
    return found(ask_at_once, label, folder, reference, At(url=url, served_name=name))


def opened(backend: Backend, variant: str, folder: Path) -> Streams:
    """Streams as a worker loads them for HOLD; converted, where the variant needs it, beside the checkpoint."""
    asked = replace(
        tiny_models.job(folder, backend, variant), max_context_tokens=HOLD.context_tokens, max_batch=HOLD.slots
    )
    if asked.variant.prepares:
        artifact = folder.parent / f"{folder.name}-{backend.name}-{asked.variant.prepared_as or variant}"
        asked = replace(asked, artifact_dir=artifact)
        if not artifact.exists():
            artifact.mkdir()
            backend.prepare(asked, artifact, lambda line: None)
    return backend.streams(asked)


def driven(streams: Streams) -> AskAtOnce:
    """Asks streams as `ask_at_once` asks a server of them: requests join between two steps."""

    def ask(_server: Server, asked: AtOnce, _limit_s: float) -> Sequence[tuple[int, ...]] | Untold:
        tokens: dict[str, list[int]] = {}
        ended: dict[str, Finish] = {}

        def add(name: str, wanted: Wanted) -> str:
            streams.add(Request(id=name, prompt=wanted.prompt, max_tokens=wanted.new_tokens))
            tokens[name] = []
            return name

        def until(happened: Callable[[], bool]) -> None:
            for _ in range(10_000):
                if happened():
                    return
                for delta in streams.step():
                    tokens[delta.id] += delta.tokens
                    if delta.finish is not None:
                        ended[delta.id] = delta.finish
            raise AssertionError("it does not come to an end")

        if asked.running:
            running = add("running", asked.running)
            until(lambda: len(tokens[running]) >= 2 or running in ended)
        first = [add(f"first {number}", wanted) for number, wanted in enumerate(asked.first)]
        until(lambda: any(name in ended for name in first))
        names = [*first, *(add(f"late {number}", wanted) for number, wanted in enumerate(asked.late))]
        until(lambda: all(name in ended for name in names))
        streams.cancel("running")
        if Finish.ERROR in ended.values():
            return Untold(reason="a request failed")
        return [tuple(tokens[name]) for name in (*(["running"] if asked.running else []), *names)]

    return ask

"""The reference's answers to the fixed prompts: computed once for a model, kept as an artifact.

It is float32 whatever the model's size: where that does not fit in the memory, a layer at a time.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.check.agreement import CHECK_VERSION, NEW_TOKENS, Answers, rounding_of
from calibration.check.tolerance import Rounding, precision_class
from calibration.codec import to_plain
from calibration.conversion.artifact import LOG
from calibration.errors import ArtifactError
from calibration.events import ReferenceFailed, WaitingForAnother
from calibration.launch.checker import MakeReference
from calibration.launch.session import Session
from calibration.supervision.deadline import GivenUp
from calibration.supervision.launch_spec import LaunchSpec

FLOAT32_BYTES = 4
OVERHEAD = 1.3
"""A float32 reference holds all weights at once where these, times this, fit into the memory."""
BY_LAYER = "by_layer"
"""Option of a variant of transformers."""
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""glibc else keeps what was freed of blocks up to 32 MiB: 380 MiB for 16 layers of 34, and with this 83."""
BY_LAYER_S_PER_GIB = 30.0
"""For a pass over so much of a 16-bit model, at most: a disk of 100 MB/s reads it in 11 s. It bounds what hangs."""
OTHER_16_BITS = {"bfloat16": "fp16", "float16": "bf16"}
"""A model's 16-bit dtype: the precision of the other one."""


def reference_of(spec: LaunchSpec, *, instead: LaunchSpec | None = None, dequantised: bool = False) -> MakeReference:
    """What makes the reference with this candidate (transformers, in float32 wherever that can be).

    The function it returns gives None, and reports ReferenceFailed, where the reference cannot be computed: the
    candidates then stay unchecked.

    Args:
        instead: computes the reference, less exactly, where `spec` fails.
        dequantised: the model is quantised, and `spec` is given the float32 model that it stands for.
    """

    def make(session: Session) -> Answers | None:
        message = ""
        for attempt in _attempts(session, spec, instead, dequantised=dequantised):
            try:
                return attempt.answers()
            except GivenUp as given_up:
                message = f"{given_up.trouble.kind}: {given_up.trouble.message}"
                if given_up.trouble.at_deadline and session.deadline.is_past():
                    break
            except ArtifactError as error:
                message = error.message
        session.reporter.report(ReferenceFailed(message=message))
        return None

    return make


def failing_reference(message: str) -> MakeReference:
    """A reference that nobody computes, since transformers computes this model otherwise than it is: it reports why."""

    def make(session: Session) -> Answers | None:
        session.reporter.report(ReferenceFailed(message=message))
        return None

    return make


def _attempts(
    session: Session, spec: LaunchSpec, instead: LaunchSpec | None, *, dequantised: bool
) -> Iterator["_Attempt"]:
    """The most exact first, and of these the fastest."""
    subject = session.subject
    if spec.variant.precision != "fp32":
        yield _Attempt(session, spec, dequantised=dequantised)
    else:
        if subject.parameters * FLOAT32_BYTES * OVERHEAD < subject.memory_limit_bytes:
            yield _Attempt(session, spec, dequantised=dequantised)
        variant = replace(spec.variant, options={**spec.variant.options, BY_LAYER: True})
        by_layer = replace(spec, variant=variant, variables={**spec.variables, **GIVEN_BACK})
        yield _Attempt(session, by_layer, dequantised=dequantised)
    if instead is not None:
        yield _Attempt(session, instead, dequantised=False)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """To compute the answers with one candidate, or to find them."""

    session: Session
    spec: LaunchSpec
    dequantised: bool

    def answers(self) -> Answers:
        """Raises GivenUp and ArtifactError."""
        session, spec = self.session, self.spec
        prompts = session.check_prompts()
        artifact = session.store.make(
            {
                "kind": "reference",
                "weights": session.subject.weights_identity,
                "model": session.subject.name,
                **({"cut": cut} if (cut := session.subject.identity.cut) else {}),
                "engine": f"{spec.label} of the model dequantised to float32" if self.dequantised else spec.label,
                "versions": json.dumps(dict(spec.environment), sort_keys=True),
                "check": f"{CHECK_VERSION}: {','.join(str(len(p)) for p in prompts)}",
            },
            self._build,
            what="the reference",
            # A row of float32 scores for every token of every path.
            needed_bytes=len(prompts) * NEW_TOKENS * session.subject.vocab_size * FLOAT32_BYTES
            + (FLOAT32_BYTES * session.subject.parameters if self.dequantised else 0),
            waiting=lambda: session.reporter.report(WaitingForAnother(doing="computes the same reference")),
        )
        return _read(artifact.path)

    def _build(self, destination: Path) -> None:
        session, spec = self.session, self.spec
        log = session.folder / "reference.log"
        log.touch()
        if self.dequantised:
            spec = replace(spec, model_dir=_dequantised(session, spec, destination, log))
        answers = _refer(session, spec, destination / ROWS, log)
        if self.dequantised:
            shutil.rmtree(destination / DEQUANTISED)
        rounding = None if self.dequantised else _rounding(session, spec, answers, log)
        _write(replace(answers, rounding=rounding), destination)
        shutil.copyfile(log, destination.parent / LOG)


ROWS, ANSWERS, DEQUANTISED = "rows.f32", "answers.json", "dequantised"
"""Of a reference's folder."""


def _write(answers: Answers, folder: Path) -> None:
    plain = {
        "tokens": answers.tokens,
        "row_shape": answers.row_shape,
        "rounding": to_plain(answers.rounding),
        "precision": answers.precision,
    }
    (folder / ANSWERS).write_text(json.dumps(plain), encoding="utf-8")


def _read(folder: Path) -> Answers:
    plain = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
    answers = Answers.of(plain["tokens"], folder / ROWS, plain["row_shape"])
    # By hand, since the codec refuses what a divergence may be: infinite, or rounded below 0.
    rounding = Rounding(**plain["rounding"]) if plain["rounding"] else None
    return replace(answers, rounding=rounding, precision=plain["precision"])


def _dequantised(session: Session, spec: LaunchSpec, destination: Path, log: Path) -> Path:
    """The folder of the float32 model that a quantised one stands for."""
    folder = destination / DEQUANTISED
    with session.workers.start(spec, log) as worker:
        session.deadline.ask(
            worker,
            "reference",
            session.limits.prepare_s,
            "dequantise",
            source=str(session.subject.model_dir),
            destination=str(folder),
        )
    return folder


def _refer(session: Session, spec: LaunchSpec, rows_file: Path, log: Path) -> Answers:
    """The reference's greedy paths and its scores along them."""
    with session.workers.opened(spec, log, session.deadline, "reference") as worker:
        session.deadline.ask(worker, "reference", session.limits.load_s, "load")
        reply = session.deadline.ask(
            worker,
            "check",
            _limit_s(session, spec, NEW_TOKENS),
            "refer",
            prompts=session.check_prompts(),
            new_tokens=NEW_TOKENS,
            rows_file=str(rows_file),
        )
    answers = Answers.of_reference(reply.fields["paths"], rows_file, reply.fields["rows"])
    return replace(answers, precision=precision_class(spec.variant.precision, session.subject.dtype, lossy=False))


def _limit_s(session: Session, spec: LaunchSpec, passes: int) -> float:
    """Seconds within which a worker must have gone so often through all its weights."""
    if not spec.variant.options.get(BY_LAYER):
        return session.limits.load_s
    return max(session.limits.load_s, passes * BY_LAYER_S_PER_GIB * session.subject.parameters * 2 / 2**30)


def _rounding(session: Session, spec: LaunchSpec, answers: Answers, log: Path) -> Rounding | None:
    """How far 16 bits are off, by the same engine along the same paths after the same prompts.

    The long prompt is among them: after 1,040 tokens of an 8 B's first layers 16 bits are further off than after 96.

    Of a float32 reference it is the distance of the model's own 16-bit dtype from it; of a reference in 16 bits the
    distance of the other 16-bit dtype, whose errors are others, so that its own errors are in it, too. None where the
    model has no 16-bit dtype, or where it does not run.

    Raises:
        GivenUp: the budget ended first.
    """
    dtype = session.subject.dtype
    if dtype not in OTHER_16_BITS or answers.rows_file is None:
        return None
    precision = "model" if answers.precision == "fp32" else OTHER_16_BITS[dtype]
    rounded = replace(spec, variant=replace(spec.variant, precision=precision))
    prompts = session.check_prompts()
    rows_file = session.folder / "rounded.f32"
    try:
        with session.workers.opened(rounded, log, session.deadline, "reference") as worker:
            session.deadline.ask(worker, "reference", session.limits.load_s, "load")
            reply = session.deadline.ask(
                worker,
                "check",
                _limit_s(session, rounded, 1),
                "answer",
                prompts=prompts,
                groups=[],
                new_tokens=NEW_TOKENS,
                continuations=[list(answers.path(i)[:-1]) for i in range(len(prompts))],
                rows_file=str(rows_file),
            )
        shape = reply.fields["rows"]
        return rounding_of(answers, rows_file, (shape[0], shape[1])) if shape else None
    except GivenUp as given_up:
        if given_up.trouble.at_deadline and session.deadline.is_past():
            raise  # a reference is kept: one that the budget cut short must not be
        return None
    finally:
        rows_file.unlink(missing_ok=True)

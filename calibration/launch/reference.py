"""The reference's answers to the fixed prompts: computed once for a model, kept as an artifact."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from calibration.check.agreement import CHECK_VERSION, NEW_TOKENS, PROMPT_TOKENS, Answers, rounding_of
from calibration.check.tolerance import Rounding
from calibration.codec import to_plain
from calibration.conversion.store import LOG
from calibration.errors import ArtifactError
from calibration.events import ReferenceFailed, WaitingForAnother
from calibration.launch.checker import MakeReference
from calibration.launch.session import Session
from calibration.supervision.deadline import GivenUp
from calibration.supervision.launch_spec import LaunchSpec

SIXTEEN_BITS = ("float16", "bfloat16")


def reference_of(spec: LaunchSpec, *, dequantised: bool = False) -> MakeReference:
    """What makes the reference with this candidate (transformers, in float32 where that fits).

    The function it returns gives None, and reports ReferenceFailed, where the reference cannot be computed: the
    candidates then stay unchecked.

    Args:
        dequantised: the model is quantised, and is first written as the float16 model that it stands for.
    """

    def make(session: Session) -> Answers | None:
        prompts = session.check_prompts()
        log = session.folder / "reference.log"
        log.touch()

        def build(destination: Path) -> None:
            reference = replace(spec, model_dir=_dequantised(session, spec, destination, log)) if dequantised else spec
            answers = _refer(session, reference, destination / ROWS, log)
            if dequantised:
                shutil.rmtree(destination / DEQUANTISED)
            rounding = None if dequantised else _rounding(session, spec, answers, log)
            _write(replace(answers, rounding=rounding), destination)
            shutil.copyfile(log, destination.parent / LOG)

        try:
            artifact = session.store.make(
                {
                    "kind": "reference",
                    "weights": session.subject.weights_identity,
                    "model": session.subject.name,
                    "engine": f"{spec.label} of the dequantised model" if dequantised else spec.label,
                    "versions": json.dumps(dict(spec.environment), sort_keys=True),
                    "check": f"{CHECK_VERSION}: {','.join(str(len(p)) for p in prompts)}",
                },
                build,
                what="the reference",
                # A row of float32 scores for every token of every path.
                needed_bytes=len(prompts) * NEW_TOKENS * session.subject.vocab_size * 4
                + (2 * session.subject.parameters if dequantised else 0),
                waiting=lambda: session.reporter.report(WaitingForAnother(doing="computes the same reference")),
            )
        except GivenUp as given_up:
            trouble = given_up.trouble
            session.reporter.report(ReferenceFailed(message=f"{trouble.kind}: {trouble.message}"))
            return None
        except ArtifactError as error:
            session.reporter.report(ReferenceFailed(message=error.message))
            return None
        return _read(artifact.path)

    return make


ROWS, ANSWERS, DEQUANTISED = "rows.f32", "answers.json", "dequantised"
"""Of a reference's folder."""


def _write(answers: Answers, folder: Path) -> None:
    plain = {"tokens": answers.tokens, "row_shape": answers.row_shape, "rounding": to_plain(answers.rounding)}
    (folder / ANSWERS).write_text(json.dumps(plain), encoding="utf-8")


def _read(folder: Path) -> Answers:
    plain = json.loads((folder / ANSWERS).read_text(encoding="utf-8"))
    answers = Answers.of(plain["tokens"], folder / ROWS, plain["row_shape"])
    # By hand, since the codec refuses what a divergence may be: infinite, or rounded below 0.
    return replace(answers, rounding=Rounding(**plain["rounding"]) if plain["rounding"] else None)


def _dequantised(session: Session, spec: LaunchSpec, destination: Path, log: Path) -> Path:
    """The folder of the float16 model that a quantised one stands for."""
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
            session.limits.load_s,
            "refer",
            prompts=session.check_prompts(),
            new_tokens=NEW_TOKENS,
            rows_file=str(rows_file),
        )
    return Answers.of_reference(reply.fields["paths"], rows_file, reply.fields["rows"])


def _rounding(session: Session, spec: LaunchSpec, answers: Answers, log: Path) -> Rounding | None:
    """The error that the model's own 16 bits make, by the same engine along the same paths after the short prompts.

    None where the model has no 16-bit dtype, the reference is not more precise than it, or it does not run.

    Raises:
        GivenUp: the budget ended first.
    """
    if session.subject.dtype not in SIXTEEN_BITS or spec.variant.precision != "fp32" or answers.rows_file is None:
        return None
    rounded = replace(spec, variant=replace(spec.variant, precision="model"))
    prompts = session.check_prompts()[: len(PROMPT_TOKENS)]
    rows_file = session.folder / "rounded.f32"
    try:
        with session.workers.opened(rounded, log, session.deadline, "reference") as worker:
            session.deadline.ask(worker, "reference", session.limits.load_s, "load")
            reply = session.deadline.ask(
                worker,
                "check",
                session.limits.load_s,
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

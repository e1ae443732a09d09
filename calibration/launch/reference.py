"""The reference's answers to the fixed prompts: computed once for a model, kept as an artifact."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from calibration.check.agreement import CHECK_VERSION, NEW_TOKENS, PROMPT_TOKENS, Answers, rounding_of
from calibration.check.tolerance import Rounding
from calibration.codec import to_plain
from calibration.conversion.store import LOG
from calibration.errors import ArtifactError
from calibration.launch.launcher import Launcher
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import LaunchSpec

SIXTEEN_BITS = ("float16", "bfloat16")


def reference_of(entry: LaunchSpec, *, dequantised: bool = False) -> Callable[[Launcher], Answers | None]:
    """What makes the reference with this candidate (transformers, in float32 where that fits).

    The function it returns gives None, and says why by the event `reference_failed`, where the reference cannot be
    computed: the candidates then stay unchecked.

    Args:
        dequantised: the model is quantised, and is first written as the float16 model that it stands for.
    """

    def make(launcher: Launcher) -> Answers | None:
        prompts = launcher.check_prompts()
        key = {
            "kind": "reference",
            "weights": launcher.subject.weights_identity,
            "model": launcher.subject.name,
            "engine": f"{entry.label} of the dequantised model" if dequantised else entry.label,
            "versions": json.dumps(dict(entry.environment), sort_keys=True),
            "check": f"{CHECK_VERSION}: {','.join(str(len(p)) for p in prompts)}",
        }
        log = launcher.folder / "reference.log"
        log.touch()

        def build(destination: Path) -> None:
            step = Deadline(launcher.deadline, launcher.clock)
            plain = destination / "dequantised"
            asked = replace(entry, model_dir=plain) if dequantised else entry
            if dequantised:
                source = str(launcher.subject.model_dir)
                with launcher.worker(entry, log) as worker:
                    limit_s = launcher.limits.prepare_s
                    step.ask(worker, "reference", limit_s, "dequantise", source=source, destination=str(plain))
            with launcher.worker(asked, log) as worker:
                launcher.opened(asked, worker, None, step, "reference")
                step.ask(worker, "reference", launcher.limits.load_s, "load")
                answers = launcher.answers(worker, step, None, destination / "rows.f32", launcher.limits.load_s)
            if dequantised:
                shutil.rmtree(plain)
            rounding = None if dequantised else _rounding(launcher, entry, answers, log)
            told = {
                "tokens": answers.tokens,
                "row_shape": answers.row_shape,
                "rounding": to_plain(rounding),
            }
            (destination / "answers.json").write_text(json.dumps(told), encoding="utf-8")
            shutil.copyfile(log, destination.parent / LOG)

        try:
            artifact = launcher.store.make(
                key,
                build,
                what="the reference",
                # A row of float32 scores for every token of every path.
                needed_bytes=len(prompts) * NEW_TOKENS * launcher.subject.vocab_size * 4
                + (2 * launcher.subject.parameters if dequantised else 0),
                waiting=lambda: launcher.reporter.event("waiting", what="computes the same reference"),
            )
        except GivenUp as failed:
            launcher.reporter.event("reference_failed", message=f"{failed.trouble.kind}: {failed.trouble.message}")
            return None
        except ArtifactError as error:
            launcher.reporter.event("reference_failed", message=error.message)
            return None
        told = json.loads((artifact.path / "answers.json").read_text(encoding="utf-8"))
        shape = told["row_shape"]
        return Answers(
            tokens=tuple(tuple(tuple(path) for path in paths) for paths in told["tokens"]),
            rows_file=artifact.path / "rows.f32" if shape else None,
            row_shape=(shape[0], shape[1]) if shape else None,
            rounding=Rounding(**told["rounding"]) if told["rounding"] else None,
        )

    return make


def _rounding(launcher: Launcher, entry: LaunchSpec, answers: Answers, log: Path) -> Rounding | None:
    """The error that the model's own 16 bits make, by the same engine along the same paths after the short prompts.

    None where the model has no 16-bit dtype, the reference is not more precise than it, or it does not run.

    Raises:
        GivenUp: the budget ended first.
    """
    if launcher.subject.dtype not in SIXTEEN_BITS or entry.variant.precision != "fp32" or answers.rows_file is None:
        return None
    rounded = replace(entry, variant=replace(entry.variant, precision="model"))
    step = Deadline(launcher.deadline, launcher.clock)
    prompts = launcher.check_prompts()[: len(PROMPT_TOKENS)]
    rows_file = launcher.folder / "rounded.f32"
    try:
        with launcher.worker(rounded, log) as worker:
            launcher.opened(rounded, worker, None, step, "reference")
            step.ask(worker, "reference", launcher.limits.load_s, "load")
            reply = step.ask(
                worker,
                "check",
                launcher.limits.load_s,
                "answer",
                prompts=prompts,
                groups=[],
                new_tokens=NEW_TOKENS,
                continuations=[list(answers.path(i)[:-1]) for i in range(len(prompts))],
                rows_file=str(rows_file),
            )
        shape = reply.fields["rows"]
        return rounding_of(answers, rows_file, (shape[0], shape[1])) if shape else None
    except GivenUp as failed:
        if failed.trouble.at_deadline and step.past_deadline():
            raise  # a reference is kept: one that the budget cut short must not be
        return None
    finally:
        rows_file.unlink(missing_ok=True)

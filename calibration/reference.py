"""The reference's answers to the fixed prompts: computed once for a model, kept as an artifact."""

import json
from collections.abc import Callable
from pathlib import Path

from calibration.agreement import CHECK_VERSION, Answers
from calibration.errors import ArtifactError
from calibration.launch import Entry, GivenUp, Launcher, Step


def reference_of(entry: Entry) -> Callable[[Launcher], Answers | None]:
    """What makes the reference with this candidate (transformers, in float32 where that fits).

    The function it returns gives None, and says why by the event `reference_failed`, where the reference cannot be
    computed: the candidates then stay unchecked.
    """

    def make(launcher: Launcher) -> Answers | None:
        prompts = launcher.check_prompts()
        key = {
            "kind": "reference",
            "weights": launcher.subject.weights_identity,
            "model": launcher.subject.name,
            "engine": entry.label,
            "versions": json.dumps(dict(entry.environment), sort_keys=True),
            "check": f"{CHECK_VERSION}: {','.join(str(len(p)) for p in prompts)}",
        }
        log = launcher.folder / "reference.log"
        log.touch()

        def build(destination: Path) -> None:
            step = Step(None, launcher.clock)
            with launcher.worker(entry, log) as worker:
                launcher.opened(entry, worker, None, step, "reference")
                step.ask(worker, "reference", launcher.limits.load_s, "load")
                answers = launcher.answers(worker, step, None, destination / "rows.f32", launcher.limits.load_s)
            told = {"tokens": answers.tokens, "row_shape": answers.row_shape}
            (destination / "answers.json").write_text(json.dumps(told), encoding="utf-8")

        try:
            artifact = launcher.store.make(key, build)
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
        )

    return make

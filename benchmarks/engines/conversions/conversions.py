"""Peak memory of conversions: each made alone, watched as a calibration watches it, and deleted again.

`python -m benchmarks.engines.conversions [MODEL...] [--backends A,B] [--out build/conversions.json]`

The file gathers the runs. Of each conversion with two sizes or more it prints the line through its peaks, as
Facts.prepare_memory wants it: bytes at the start, for each parameter, and for each weight of the embeddings.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from calibration.check.agreement import NEW_TOKENS
from calibration.conversion.convert import Converter, Original, conversion
from calibration.conversion.store import ArtifactStore
from calibration.errors import AutobackendError
from calibration.events import Silent
from calibration.registry import all_backends
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.launch_spec import Limits
from calibration.supervision.workers import Workers
from calibration.whole_file import write_whole
from selector.planning.plan import plan
from selector.planning.subject import subject_of

MODELS = ("shape:smollm2-135m", "shape:gemma-3-270m", "shape:smollm2-360m", "shape:qwen2.5-0.5b")

Peak = dict[str, Any]
"""backend, variant (Variant.prepared_as), model, parameters, dtype, peak_memory_bytes, bytes, seconds."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.conversions", description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--backends", default="")
    parser.add_argument("--out", type=Path, default=Path("build/conversions.json"))
    arguments = parser.parse_args(argv)
    labels = tuple(label for label in arguments.backends.split(",") if label) or tuple(
        f"{name}:{v.name}" for name, backend in all_backends().items() for v in backend.variants if v.prepares
    )
    peaks: list[Peak] = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else []
    try:
        for model in arguments.models:
            for peak in measure(model, labels):
                peaks = [p for p in peaks if _place(p) != _place(peak)] + [peak]
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                write_whole(arguments.out, json.dumps(peaks, indent=1) + "\n")
                print(f"{peak['backend']}:{peak['variant']} of {model}: {peak['peak_memory_bytes'] / 2**30:.2f} GiB")
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(lines(peaks)))
    return 0


def measure(model: str, labels: Sequence[str]) -> Iterable[Peak]:
    """The peaks of a model's conversions; those that candidates share are made once, and what fails is said."""
    planned, store = plan(model, backends=labels, allow_lossy=True), ArtifactStore()
    subject = subject_of(planned, store, Silent())
    original, made = Original.of(subject), set[tuple[str, str]]()
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        converter = Converter(
            original=original,
            store=store,
            workers=Workers(subject=subject, max_context_tokens=NEW_TOKENS, max_batch=1),
            reporter=Silent(),
            limit_s=Limits().prepare_s,
            clock=time.monotonic,
        )
        for spec in planned.launch_specs:
            key = conversion(spec, original, store.list()).key
            backend, variant = place = (key["backend"], key["variant"])
            if not spec.variant.prepares or place in made:
                continue
            made.add(place)
            _forget(store, key)
            log = Path(folder) / f"{backend}-{variant}.log"
            log.touch()
            try:
                artifact = converter.convert(spec, log, Deadline(None, time.monotonic))
            except GivenUp as given_up:
                print(f"{spec.label} of {model} failed: {given_up}", file=sys.stderr)
                continue
            yield {
                "backend": backend,
                "variant": variant,
                "converter": key["converter"],
                "model": model,
                "parameters": subject.parameters,
                "dtype": subject.dtype,
                "embeddings": planned.spec.vocab_size * planned.spec.hidden_size,
                "peak_memory_bytes": artifact.peak_memory_bytes,
                "bytes": artifact.bytes,
                "seconds": artifact.seconds,
            }
            _forget(store, key)


def lines(peaks: Sequence[Peak]) -> Iterable[str]:
    """The line through the peaks of each conversion of 16-bit checkpoints, least squares of the relative errors."""
    import numpy as np

    sixteen_bit = [p for p in peaks if p["dtype"] != "float32"]
    for backend, variant in sorted({(p["backend"], p["variant"]) for p in sixteen_bit}):
        own = [p for p in sixteen_bit if (p["backend"], p["variant"]) == (backend, variant)]
        tops = np.array([p["peak_memory_bytes"] for p in own], float)
        parts = np.array([[1.0, p["parameters"], p["embeddings"]] for p in own]) / tops[:, None]
        fits = [_fit(parts, columns) for columns in ([0, 1, 2], [0, 1], [0, 2]) if len(columns) <= len(own)]
        # No part of the memory is negative: a part that would be is left out.
        known = [fit for fit in fits if (fit >= 0).all()]
        if known:
            start, per_parameter, per_embedding = best = min(
                known, key=lambda fit: float(((parts @ fit - 1) ** 2).sum())
            )
            yield (
                f"{backend}:{variant}: {start / 2**20:.0f} MiB, {per_parameter:.2f} bytes a parameter and"
                f" {per_embedding:.2f} more of the embeddings, off by {abs(parts @ best - 1).max():.0%} at most,"
                f" {len(own)} sizes"
            )


def _fit(parts: Any, columns: list[int]) -> Any:
    """Factors of the three parts, of which those that are not among `columns` are 0."""
    import numpy as np

    factors = np.zeros(3)
    factors[columns] = np.linalg.lstsq(parts[:, columns], np.ones(len(parts)), rcond=None)[0]
    return factors


def _place(peak: Peak) -> tuple[str, ...]:
    return peak["backend"], peak["variant"], peak["model"]


def _forget(store: ArtifactStore, key: Any) -> None:
    store.prune(only=lambda artifact: artifact.key == key)


if __name__ == "__main__":
    raise SystemExit(main())

"""What a conversion will take in time and disk, said before it begins, and how far it is while it runs."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from calibration.backend import PrepareMemory, PrepareTime, Variant
from calibration.conversion.artifact import Artifact
from calibration.conversion.disk import size_of

WRITE_START_S = 5.0
WRITE_S_PER_GIB = 20.0
"""Random weights, on two cores: an interpreter that imports torch; 16 to 20 s a GiB for 0.1 to 0.5 B parameters."""
CUT_START_S = 1.0
CUT_S_PER_GIB = 2.0
"""The first layers of a checkpoint, which are copied: a file that was not in memory took 1.8 s a GiB on two cores."""
ROUGH_BYTES = 256 << 20
"""What was made before counts by its size: this much of it counts as much as the rough rate."""
EVERY_S = 0.5
"""How often a running conversion is looked at."""

DTYPE_BYTES: Mapping[str, float] = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0}
_PRECISION_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.25, "int4": 0.75}
"""Bytes a parameter; quantised ones with their scales, and with embeddings and heads that stay wider. Files of
models of 0.1 to 0.5 B parameters have 1.07 (llama.cpp's q8_0) to 2.2 (ONNX Runtime's int8) in 8 bits, 0.68 (q4_0) or
more in 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a conversion will probably take."""

    seconds: float
    bytes: int
    """Of what is made; 0 where the number of parameters is not known."""
    scratch_bytes: int
    """That it needs besides while it runs."""
    memory_bytes: int = 0
    """At its peak; 0 where the number of parameters is not known."""
    memory_by_facts_bytes: int = 0
    """The same by the backend's facts alone."""

    @property
    def needed_bytes(self) -> int:
        """Bytes that must be free on the disk when it begins."""
        return self.bytes + self.scratch_bytes

    def too_large_for(self, memory_bytes: int) -> str:
        """Why a conversion is not begun where there is so much memory; empty: it fits."""
        if self.memory_bytes <= memory_bytes:
            return ""
        needed, there = (
            f"{count / 2**30:.{0 if count >= 10 * 2**30 else 1}f} GiB" for count in (self.memory_bytes, memory_bytes)
        )
        return f"conversion needs about {needed} of memory; {there} are there"


def estimate(
    backend: str,
    variant: Variant,
    *,
    parameters: int,
    dtype: str,
    time: PrepareTime,
    known: Sequence[Artifact],
    memory: PrepareMemory,
    embeddings: int = 0,
    expert_parameters: int = 0,
    layers: int = 0,
) -> Estimate:
    """Time, disk and memory of a variant's conversion.

    Bytes: parameters x the variant's precision; quantising variants may write the model in its own dtype first.
    Seconds: the start, and those for each GiB of weights that is read, corrected by what the backend's earlier
    conversions took for a byte of their results; by those of the same variant alone where there are some.
    Memory: by the backend's facts, corrected by what the variant's own conversions held beside what the facts had said.

    Args:
        parameters: of the model; 0: not known.
        dtype: the checkpoint's.
        time: Facts.prepare_time.
        known: what is in the store.
        memory: Facts.prepare_memory_of(variant).
        embeddings: of the parameters, those of the embedding matrix.
        expert_parameters: of the parameters, those of routed experts.
        layers: of the model.
    """
    own = DTYPE_BYTES.get(dtype, 2.0)
    made_bytes = parameters * _PRECISION_BYTES.get(variant.precision, own)
    quantises = variant.precision in {"int8", "int4"}
    earlier = [a for a in known if a.kind == "converted" and a.key.get("backend") == backend and a.bytes > 0]
    of_variant = [a for a in earlier if a.key.get("variant") == (variant.prepared_as or variant.name)]
    by_facts = memory.weights_bytes(parameters, embeddings, expert_parameters, layers)
    return Estimate(
        seconds=_seconds(time.start_s, made_bytes, time.s_per_gib * parameters * own / 2**30, of_variant or earlier),
        bytes=int(made_bytes),
        scratch_bytes=int(parameters * own) if quantises else 0,
        memory_bytes=int(memory.start_bytes + by_facts * _heavier(memory, of_variant)) if parameters else 0,
        memory_by_facts_bytes=int(memory.start_bytes + by_facts) if parameters else 0,
    )


def checkpoint_estimate(weight_bytes: int, known: Sequence[Artifact]) -> Estimate:
    """Time and disk of random weights, by WRITE_S_PER_GIB and the time that earlier ones took."""
    earlier = [a for a in known if a.kind == "checkpoint" and a.bytes > 0]
    seconds = _seconds(WRITE_START_S, weight_bytes, WRITE_S_PER_GIB * weight_bytes / 2**30, earlier)
    return Estimate(seconds=seconds, bytes=weight_bytes, scratch_bytes=0)


def cut_estimate(weight_bytes: int, known: Sequence[Artifact]) -> Estimate:
    """Time and disk of the first layers of a checkpoint, by CUT_S_PER_GIB and the time that earlier ones took."""
    earlier = [(a.bytes, a.seconds) for a in known if a.kind == "cut" and a.bytes > 0]
    seconds = _corrected(CUT_START_S, weight_bytes, CUT_S_PER_GIB * weight_bytes / 2**30, earlier)
    return Estimate(seconds=seconds, bytes=weight_bytes, scratch_bytes=0)


def _seconds(start: float, count: float, roughly: float, earlier: Sequence[Artifact]) -> float:
    return _corrected(start, count, roughly, [(a.bytes, a.seconds) for a in earlier])


def _corrected(start: float, count: float, roughly: float, earlier: Sequence[tuple[int, float]]) -> float:
    """The start, and `roughly` for so many bytes, corrected by what earlier artifacts took for theirs beyond the start.

    The rough rate counts as much as ROUGH_BYTES that were made: a tiny model, which takes hardly more than the start,
    says next to nothing of a large one.

    Args:
        earlier: of each artifact, its bytes and what it took.
    """
    took_beyond = sum(max(0.0, took - start) for _, took in earlier)
    made = sum(size for size, _ in earlier)
    rate = (roughly / count * ROUGH_BYTES + took_beyond) / (ROUGH_BYTES + made) if count else 0.0
    return start + count * rate


def _heavier(memory: PrepareMemory, earlier: Sequence[Artifact]) -> float:
    """How many times more earlier conversions held beyond the start than the facts had said.

    The facts count as much as ROUGH_BYTES that were held, so that a tiny model says next to nothing of a large one.
    """
    said_and_held = [
        (max(0, said - memory.start_bytes), max(0, held - memory.start_bytes))
        for a in earlier
        if (said := a.expected_memory_bytes) is not None and (held := a.peak_memory_bytes) is not None
    ]
    all_said, all_held = (sum(each) for each in zip(*said_and_held, strict=True)) if said_and_held else (0, 0)
    return (ROUGH_BYTES + all_held) / (ROUGH_BYTES + all_said)


class Watch:
    """Tells twice a second how far a running conversion is: seconds so far and bytes in its folder.

    A context manager; a thread does it, since the caller waits for the worker meanwhile.
    """

    def __init__(self, folder: Path, tell: Callable[[float, int], None], clock: Callable[[], float]) -> None:
        self._folder = folder
        self._tell = tell
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._began = self._clock()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            self._tell(self._clock() - self._began, size_of(self._folder))

"""A rung of a model as a calibration launches it: what is there, what it will take, and whom it cannot hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calibration.conversion.convert import Original, conversion
from calibration.conversion.estimate import Estimate
from calibration.conversion.store import ArtifactStore
from calibration.launch.checker import MakeReference, no_reference
from calibration.measurement import Identity
from calibration.rung import Rung
from calibration.supervision.launch_spec import LaunchSpec, Subject

REFERENCE_S, REFERENCE_S_PER_GIB = 8.0, 12.0
"""Of a reference in float32 on two cores: its start, and what each GiB of its weights takes in both passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """One rung. Its weights are written when `subject` is called, and not before."""

    rung: Rung
    identity: Identity
    original: Original
    subject: Callable[[], Subject]
    memory_bytes: int
    """That a worker may hold."""
    reference: MakeReference = no_reference
    checkpoint: Estimate | None = None
    """Of weights that must be written first; None where they are there."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Candidate label: why it cannot be launched on this rung."""

    @property
    def opening_s(self) -> float:
        """What this rung takes before its first launch: its weights and its reference."""
        written_s = self.checkpoint.seconds if self.checkpoint else 0.0
        return written_s + REFERENCE_S + REFERENCE_S_PER_GIB * 4 * self.original.parameters / 2**30


def conversions(depth: Depth, candidates: Sequence[LaunchSpec], store: ArtifactStore) -> dict[str, Estimate]:
    """The conversions that candidates lack on a rung: label and what it will take."""
    known = store.list()
    lacking = {}
    for spec in candidates:
        if spec.variant.prepares:
            wanted = conversion(spec, depth.original, known)
            if store.get(wanted.key) is None:
                lacking[spec.label] = wanted.expected
    return lacking


def unaffordable(depth: Depth, lacking: Mapping[str, Estimate], free_bytes: int) -> dict[str, str]:
    """Who cannot be launched on a rung, and why: memory or disk will not hold its conversion.

    Args:
        lacking: the conversions that are still to be made.
        free_bytes: on the disk of the store.
    """
    reasons = dict(depth.refused)
    written = depth.checkpoint.needed_bytes if depth.checkpoint else 0
    for label, expected in lacking.items():
        if reason := expected.too_large_for(depth.memory_bytes):
            reasons.setdefault(label, reason)
        elif expected.needed_bytes + written > free_bytes:
            needed, there = (f"{size / 2**30:.1f} GiB" for size in (expected.needed_bytes + written, free_bytes))
            reasons.setdefault(label, f"needs {needed} of disk; {there} are free")
    return reasons

"""What a calibration makes before it measures: random weights and conversions; what they will take, said first."""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibration.checkpoints.random_weights import SEED, checkpoint_key, random_weights_identity
from calibration.conversion.convert import Original, missing, too_large
from calibration.conversion.disk import disk_of
from calibration.conversion.estimate import Estimate, Watch, checkpoint_estimate
from calibration.conversion.store import LOG, ArtifactStore, Watched
from calibration.errors import ArtifactError
from calibration.events import CheckpointBegan, MakingEvent, Reporter, WaitingForAnother, WritingContinues
from calibration.supervision.launch_spec import LaunchSpec
from calibration.supervision.supervisor import Trouble, Worker
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec

CHECKPOINT_LIMIT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparations:
    """What is not in the store yet and will be made, each once."""

    checkpoint: Estimate | None
    """None where the weights are there."""
    conversions: tuple[tuple[str, Estimate], ...]
    """Label of the first candidate that needs it; candidates that share one are not named again."""
    free_bytes: int
    disk: Path
    too_large: Mapping[str, str] = field(default_factory=dict)
    """Label of each candidate whose conversion memory will not hold, and the reason: it is not begun."""

    @property
    def seconds(self) -> float:
        return sum(e.seconds for e in self._all())

    @property
    def bytes(self) -> int:
        return sum(e.bytes for e in self._all())

    @property
    def most_needed_bytes(self) -> int:
        """Free space that must be there for all of it, scratch of the largest included."""
        return self.bytes + max((e.scratch_bytes for e in self._all()), default=0)

    def _all(self) -> list[Estimate]:
        return [*([self.checkpoint] if self.checkpoint else []), *(e for _, e in self.conversions)]


def preparations(
    spec: ModelSpec,
    candidates: Sequence[LaunchSpec],
    store: ArtifactStore,
    *,
    random_weights: bool,
    memory_bytes: int,
) -> Preparations:
    """What these candidates need that the store has not.

    Args:
        memory_bytes: that a conversion may take.

    Raises:
        ArtifactError: the store's disk cannot be looked at.
    """
    randomly = random_weights or spec.name.startswith("shape:")
    original = Original(
        name=spec.name,
        weights=random_weights_identity(spec.folder) if randomly else spec.weights_identity,
        parameters=spec.parameters,
        dtype=spec.dtype,
        embeddings=spec.vocab_size * spec.hidden_size,
    )
    beyond_memory = too_large(candidates, original, store, memory_bytes)
    feasible = [candidate for candidate in candidates if candidate.label not in beyond_memory]
    unwritten = randomly and store.get(checkpoint_key(spec.folder, spec.name)) is None
    return Preparations(
        checkpoint=checkpoint_estimate(spec.weight_bytes, store.list()) if unwritten else None,
        conversions=tuple(missing(feasible, original, store).items()),
        too_large=beyond_memory,
        free_bytes=store.free_bytes(),
        disk=disk_of(store.root),
    )


def random_checkpoint(
    spec: ModelSpec, store: ArtifactStore, reporter: Reporter[MakingEvent], host: HostSpec
) -> tuple[Path, str]:
    """The folder of a checkpoint with random weights, and the identity of its weights.

    Raises:
        ArtifactError: no space, or transformers cannot make one.
    """
    expected = checkpoint_estimate(spec.weight_bytes, store.list())

    def tell(elapsed_s: float, written_bytes: int) -> None:
        reporter.report(
            WritingContinues(what="random weights", expected=expected, elapsed_s=elapsed_s, written_bytes=written_bytes)
        )

    def build(destination: Path) -> Watched:
        reporter.report(CheckpointBegan(model=spec.name, expected=expected))
        with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
            log = Path(folder) / "checkpoint.log"
            with (
                Worker(
                    host.installations["transformers"].python, log=log, memory_limit_bytes=host.memory_bytes
                ) as worker,
                Watch(destination, tell, time.monotonic),
            ):
                answer = worker.ask(
                    "checkpoint",
                    timeout_s=CHECKPOINT_LIMIT_S,
                    config_dir=str(spec.folder),
                    destination=str(destination),
                    seed=SEED,
                )
            if isinstance(answer, Trouble):
                raise ArtifactError(
                    f"no checkpoint with random weights for {spec.name}: {answer.message}",
                    "transformers must know the architecture and be installed where the transformers backend runs",
                )
            shutil.copyfile(log, destination.parent / LOG)
            return Watched(peak_memory_bytes=worker.peak_unmapped_bytes)

    artifact = store.make(
        checkpoint_key(spec.folder, spec.name),
        build,
        what="a checkpoint with random weights",
        needed_bytes=expected.needed_bytes,
        waiting=lambda: reporter.report(WaitingForAnother(doing="writes the same weights")),
    )
    return artifact.path, random_weights_identity(spec.folder)

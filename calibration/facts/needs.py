"""What an engine takes and needs of a checkpoint: quant formats, fields of its config, packages of its architecture."""

from dataclasses import dataclass


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

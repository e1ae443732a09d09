"""Variant: one configuration of a backend worth timing by itself, and what a host and a model must have for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

"""QuantFormat: every quantization_config in use, read into one type."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantFormat:
    """How the weights of a checkpoint are stored. None in a field: it has no such thing, or does not say."""

    method: str = "none"
    bits: int | None = None
    group_size: int | None = None
    """-1 is per channel."""
    symmetric: bool | None = None
    desc_act: bool | None = None
    zero_point: bool | None = None
    version: str | None = None
    block_shape: tuple[int, int] | None = None
    activation_scheme: str | None = None
    activation_bits: int | None = None
    format: str | None = None
    strategy: str | None = None
    kind: str | None = None
    """int or float"""
    groups: tuple["QuantFormat", ...] = ()
    """The config groups of compressed-tensors and modelopt where there is more than one."""
    kv_cache: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`none`, `awq-4bit-g128`, `fp8-e4m3-128x128` ...: the cache's key and the screens' name."""
        return self.method if self.bits is None else f"{self.method}-{self.bits}bit"

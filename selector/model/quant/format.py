"""QuantFormat: every quantization_config in use, read into one type."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantFormat:
    """How the weights of a checkpoint are stored. None in a field: the format has no such thing, or does not say."""

    method: str = "none"
    bits: int | None = None
    group_size: int | None = None
    """-1 is per channel."""
    symmetric: bool | None = None
    desc_act: bool | None = None
    zero_point: bool | None = None
    version: str | None = None
    """awq: gemm, gemv ...; gptq: its checkpoint_format (gptq, gptq_v2, marlin)."""
    block_shape: tuple[int, int] | None = None
    activation_scheme: str | None = None
    """static or dynamic"""
    activation_bits: int | None = None
    format: str | None = None
    """fp8: e4m3, e5m2; compressed-tensors: the packing; modelopt: the quant_algo; bitsandbytes: nf4, fp4, int8; gguf:
    the file type."""
    strategy: str | None = None
    """tensor, channel, group, block ..."""
    kind: str | None = None
    """int or float"""
    groups: tuple["QuantFormat", ...] = ()
    """The config groups of compressed-tensors and modelopt where there is more than one, and the experts of a
    checkpoint that stores them in another format than the rest."""
    kv_cache: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name on the screens, and the key in the cache.

        >>> QuantFormat(method="awq", bits=4, group_size=128).label
        'awq-4bit-g128'
        """
        if self.groups:
            return f"{self.method}-mixed-{'+'.join(sorted({'-'.join(_parts(group)) for group in self.groups}))}"
        return "-".join([self.method, *_parts(self)])

    @property
    def weight_bits(self) -> float | None:
        """Bits that one quantized weight takes, scales and zero points included; None where nothing is quantized.

        Of several groups the smallest: the experts, which are most of the weights, are stored in the fewest bits.
        """
        if self.groups:
            return min((bits for group in self.groups if (bits := group.weight_bits) is not None), default=None)
        if self.bits is None:
            return None
        if self.group_size is None or self.group_size < 1:
            return float(self.bits)
        scale_bits = 8 if self.kind == "float" else 16
        zero_bits = self.bits if self.zero_point else 0
        return self.bits + (scale_bits + zero_bits) / self.group_size


NONE: Final = QuantFormat()


def _parts(quant: QuantFormat) -> list[str]:
    """What follows the method in the label."""
    shape = [f"{quant.block_shape[0]}x{quant.block_shape[1]}"] if quant.block_shape else []
    match quant.method:
        case "mxfp4":
            return []
        case "fp8":
            # Blocks come with dynamic activations, so the label names the scheme only where it is another.
            usual = bool(shape) and quant.activation_scheme == "dynamic"
            scheme = [quant.activation_scheme] if quant.activation_scheme and not usual else []
            return [quant.format or "e4m3", *shape, *scheme]
        case "modelopt" | "gguf" | "smooth_quant" if quant.format:
            return [quant.format, *shape]
        case _ if (quant.format or "").endswith("bpw"):  # exl2: a fraction of bits per weight
            return [str(quant.format)]
        case "bitsandbytes" if quant.bits == 4 and quant.format:
            return ["4bit", quant.format]
    return [*_weights(quant, shape), *_activations(quant), *_details(quant)]


def _weights(quant: QuantFormat, shape: list[str]) -> list[str]:
    if quant.bits is None:
        return shape
    precision = f"{quant.bits}bit"
    if quant.kind == "float":
        micro = {(4, 16): "nvfp4", (4, 32): "mxfp4", (8, 32): "mxfp8"}.get((quant.bits, quant.group_size or 0))
        if micro:  # its group size is part of the format
            return [micro]
        precision = f"fp{quant.bits}"
    if shape:
        return [precision, *shape]
    if quant.group_size is not None and quant.group_size > 0:
        return [precision, f"g{quant.group_size}"]
    if quant.strategy in {"channel", "tensor"}:
        return [precision, quant.strategy]
    return [precision, "channel"] if quant.group_size == -1 else [precision]


def _activations(quant: QuantFormat) -> list[str]:
    if quant.activation_bits is None:
        return []
    static = ["static"] if quant.activation_scheme == "static" and quant.bits == 8 else []
    return [f"a{quant.activation_bits}", *static]


def _details(quant: QuantFormat) -> list[str]:
    details = ["desc_act"] if quant.desc_act else []
    if quant.method == "awq" and quant.symmetric:
        details.append("sym")
    if quant.method != "awq" and quant.symmetric is False:
        details.append("asym")
    if quant.version not in {None, "gemm", "gptq"}:
        details.append(str(quant.version))
    return details

"""Quantised checkpoints that llama.cpp's converter turns into plain weights: the formats, as data."""

from calibration.facts import QuantFact

_SOURCE = "llama.cpp conversion/base.py, dequant_model"

DEQUANTISED = (
    # Each row of a matrix has its group in g_idx, so that any order is right.
    QuantFact(
        method="gptq",
        bits=frozenset({2, 4, 8}),
        versions=frozenset({"gptq", "gptq_v2"}),
        dequantised=True,
        source=_SOURCE,
    ),
    QuantFact(
        method="compressed-tensors",
        bits=frozenset({4, 8}),
        formats=frozenset({"pack-quantized"}),
        strategies=frozenset({"group"}),
        desc_act=False,
        dequantised=True,
        source=_SOURCE,
    ),
    QuantFact(
        method="compressed-tensors",
        bits=frozenset({8}),
        formats=frozenset({"float-quantized", "int-quantized", "naive-quantized"}),
        strategies=frozenset({"block", "channel"}),
        dequantised=True,
        source=_SOURCE,
    ),
    # DeepSeek's and transformers' own: a scale for each block, weight_scale_inv.
    QuantFact(
        method="fp8",
        bits=frozenset({8}),
        strategies=frozenset({"block"}),
        dequantised=True,
        source=_SOURCE,
    ),
    QuantFact(
        method="modelopt",
        bits=frozenset({8}),
        formats=frozenset({"fp8"}),
        dequantised=True,
        source=_SOURCE,
    ),
)
"""AWQ, bitsandbytes and others end the converter: "Quant method is not yet supported"."""

"""Quantised weights that llama.cpp takes: files that it loads as they are, and checkpoints that are converted."""

from calibration.facts.needs import QuantFact

_SOURCE = "llama.cpp conversion/base.py, dequant_model"

_FILE_TYPES = frozenset({
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l",
    "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m",
    "iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4", "mixed",
})  # fmt: skip
"""File types of llama.cpp's include/llama.h (enum llama_ftype), each of tensor types that its CPU code computes."""

_DEQUANTISED = (
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

QUANTS = (
    QuantFact(method="gguf", formats=_FILE_TYPES, source="llama.cpp include/llama.h (enum llama_ftype)"),
    *_DEQUANTISED,
)

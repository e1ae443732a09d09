"""Rows of the formats of quantised weights, with the ways in which checkpoints write them."""

from tests.lmdeploy.turbomind.rows import BF16, SM70, SM80, SM90, SM100, SM120, USUAL, Row, shape

KNOWN = "needs weights without quantization or in awq, gptq, fp8, compressed-tensors or mxfp4; found"
GEMM = 'needs "version": "gemm" in quantization_config, so written; found {}'
BESIDE = "needs the format in config.json's quantization_config, which alone is read; found it elsewhere"

FORMAT_ROWS = (
    Row(name="awq", kind="qwen2", quant="awq-g128", on=(SM70, *USUAL)),
    Row(name="awq experts", kind="qwen3moe", quant="awq-g128"),
    Row(name="awq g64", kind="qwen2", quant="awq-g64", refused="needs awq with group size 128; found group size 64"),
    Row(name="awq g32", kind="qwen2", quant="awq-g32", refused="needs awq with group size 128; found group size 32"),
    Row(name="awq gemv", kind="qwen2", quant="awq-gemv", refused="needs awq with version gemm; found version gemv"),
    *(
        Row(name=f"awq {written}", kind="qwen2", quant=quant, refused=GEMM.format(written))
        for quant, written in (("awq-GEMM", "GEMM"), ("awq-unversioned", "none"))
    ),
    Row(
        name="awq null",
        kind="qwen2",
        quant="awq-null",
        refused="needs a number as quantization_config.group_size, or none at all; found null",
    ),
    Row(name="awq told beside", kind="qwen2", quant="awq-g128", shape=shape(beside=True), refused=BESIDE),
    Row(name="gptq told beside", kind="qwen2", quant="gptq-g128", shape=shape(beside=True), refused=BESIDE),
    Row(name="gptq", kind="qwen2", quant="gptq-g128"),
    Row(name="gptq experts", kind="qwen3moe", quant="gptq-g128"),
    Row(name="gptq g64", kind="qwen2", quant="gptq-g64", refused="needs gptq with group size 128; found group size 64"),
    Row(name="gptq act", kind="qwen2", quant="gptq-desc-act", refused="needs gptq with no desc_act; found desc_act"),
    Row(
        name="gptq asymmetric",
        kind="qwen2",
        quant="gptq-asymmetric",
        refused="needs gptq with symmetric weights; found zero points",
    ),
    Row(name="gptq 8", kind="qwen2", quant="gptq-8bit", refused="needs gptq with 4 bits; found 8 bits"),
    Row(
        name="gptq v2",
        kind="qwen2",
        quant="gptq-v2",
        refused="needs checkpoint_format gptq; found gptq_v2",
        loads="zero points are read one too high",
    ),
    Row(name="fp8", kind="qwen2", dtype=BF16, quant="fp8-blocks", on=(SM80, SM90, SM100, SM120)),
    Row(name="fp8 experts", kind="qwen3moe", dtype=BF16, quant="fp8-blocks", on=(SM80, SM90)),
    Row(
        name="fp8 tensor",
        kind="qwen2",
        dtype=BF16,
        quant="fp8-tensor",
        on=(SM80, SM90),
        refused="needs fp8 with blocks of 128x128; found no blocks",
        loads="the scales are never read",
    ),
    Row(
        name="int4, format at the top",
        kind="qwen2",
        dtype=BF16,
        quant="compressed-top",
        on=(SM80, SM90),
        refused="needs format pack-quantized in config_groups.group_0, where it is read; found it beside config_groups",
    ),
    Row(name="int4 g128", kind="qwen2", dtype=BF16, quant="compressed-g128", on=(SM80, SM90)),
    Row(name="int4 g32", kind="qwen3moe", dtype=BF16, quant="compressed-g32", on=(SM80, SM90)),
    Row(
        name="int4 g64",
        kind="qwen2",
        quant="compressed-g64",
        refused="needs compressed-tensors with group size 32 or 128; found group size 64",
    ),
    Row(
        name="int8",
        kind="qwen2",
        quant="compressed-int8",
        refused="needs compressed-tensors with 4 bits; found 8 bits",
    ),
    Row(name="bitsandbytes", kind="qwen2", quant="bitsandbytes", refused=f"{KNOWN} bitsandbytes-4bit-fp4"),
    Row(name="smooth_quant", kind="qwen2", quant="smooth_quant", refused=f"{KNOWN} smooth_quant-int8"),
)

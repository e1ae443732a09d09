"""Rows of the kinds of models that TurboMind takes, in each dtype and on each device."""

from tests.lmdeploy.turbomind.rows import (
    BF16,
    LINEAR,
    LINEAR16,
    MLA,
    SM70,
    SM75,
    SM80,
    SM90,
    SM100,
    SM120,
    USUAL,
    Row,
    shape,
)

EXPERTS = "needs bfloat16 for experts on compute capability 9.0; found float16"
NO_BF16 = "needs compute capability 8.0 or newer for bfloat16; found 7.5 (a GPU)"
HALVED = "computed in float16, with a warning in a log"
AS_IT_IS = "needs a checkpoint that is not float16, which the variant `default` computes as it is"

KIND_ROWS = (
    Row(name="llama", kind="llama", on=(SM70, *USUAL, SM100, SM120)),
    Row(name="qwen2", kind="qwen2"),
    Row(name="qwen3", kind="qwen3"),
    Row(name="qwen3 bf16", kind="qwen3", dtype=BF16, on=(SM80, SM90, SM100, SM120)),
    Row(name="bf16 on sm75", kind="qwen3", dtype=BF16, on=(SM75,), refused=NO_BF16, loads=HALVED),
    Row(name="bf16 in fp16", kind="qwen3", dtype=BF16, on=(SM70, SM75), variant="fp16"),
    Row(name="bf16 experts in fp16", kind="qwen3moe", dtype=BF16, on=(SM75,), variant="fp16"),
    Row(name="bf16 fp8 in fp16", kind="qwen3", dtype=BF16, quant="fp8-blocks", on=(SM70, SM75), variant="fp16"),
    Row(name="bf16 int4 in fp16", kind="qwen3", dtype=BF16, quant="compressed-g32", on=(SM70, SM75), variant="fp16"),
    Row(name="fp16 in fp16", kind="qwen3", on=(SM75,), variant="fp16", refused=AS_IT_IS, loads="the same as default"),
    Row(name="qwen3moe", kind="qwen3moe", on=(SM75, SM80, SM100, SM120)),
    Row(name="qwen3moe fp16", kind="qwen3moe", on=(SM90,), refused=EXPERTS),
    Row(name="qwen3moe bf16", kind="qwen3moe", dtype=BF16, on=(SM80, SM90)),
    Row(name="qwen2moe bf16", kind="qwen2moe", dtype=BF16, on=(SM80, SM90)),
    Row(name="mixtral bf16", kind="mixtral", dtype=BF16, on=(SM80, SM90)),
    Row(name="gptoss bf16", kind="gptoss", dtype=BF16, shape=shape(head_dim=64), on=(SM80, SM90)),
    Row(name="gptoss mxfp4", kind="gptoss", dtype=BF16, quant="mxfp4", shape=shape(head_dim=64), on=(SM80, SM90)),
    Row(
        name="gptoss mxfp4 on sm75",
        kind="gptoss",
        dtype=BF16,
        quant="mxfp4",
        shape=shape(head_dim=64),
        on=(SM75,),
        refused=NO_BF16,
    ),
    Row(name="glm bf16", kind="glm", dtype=BF16, shape=MLA, on=(SM80, SM90)),
    Row(
        name="glm fp16 on sm75",
        kind="glm",
        shape=MLA,
        on=(SM75,),
        refused="needs compute capability 8.0 for head_dim 576; found 7.5",
    ),
    Row(
        name="glm with other experts",
        kind="glm",
        dtype=BF16,
        shape={**MLA, "num_experts_per_tok": 6},
        on=(SM80,),
        refused="needs 4 of 64 or 8 of 160 experts per token; found 6 of 64",
    ),
    Row(name="qwen3.5 bf16", kind="qwen3_5", dtype=BF16, shape=LINEAR, on=(SM80, SM90, SM120)),
    Row(name="qwen3.5 fp16", kind="qwen3_5", shape=LINEAR, on=(SM75, SM80)),
    Row(
        name="qwen3.5 fp16 on sm90", kind="qwen3_5", shape=LINEAR, on=(SM90,), refused=LINEAR16.format("9.0", "float16")
    ),
    Row(
        name="qwen3.5 on sm100",
        kind="qwen3_5",
        dtype=BF16,
        shape=LINEAR,
        on=(SM100,),
        refused="needs a GPU with kernels for linear attention; compute capability 10.0 has none",
    ),
    Row(
        name="qwen3.5 with narrow linear heads",
        kind="qwen3_5",
        dtype=BF16,
        shape={**LINEAR, "linear_key_head_dim": 64, "linear_value_head_dim": 64},
        on=(SM80,),
        refused="needs linear_key_head_dim 128; found 64",
    ),
    Row(name="qwen3.5 awq", kind="qwen3_5", quant="awq-g128", shape=LINEAR, on=(SM80,)),
    Row(
        name="qwen3.5 awq on sm90",
        kind="qwen3_5",
        quant="awq-g128",
        shape=LINEAR,
        on=(SM90,),
        refused=LINEAR16.format("9.0", "awq, which runs in float16"),
    ),
    Row(name="qwen3.5 int4 bf16", kind="qwen3_5", dtype=BF16, quant="compressed-g32", shape=LINEAR, on=(SM80, SM90)),
    Row(
        name="qwen3.5 int4 bf16 on sm120",
        kind="qwen3_5",
        dtype=BF16,
        quant="compressed-g32",
        shape=LINEAR,
        on=(SM120,),
        refused=LINEAR16.format("12.0", "compressed-tensors, which runs in float16"),
    ),
)

"""Rows of quantised checkpoints whose parts differ, and of models that are divided among GPUs."""

from typing import Any

from tests.lmdeploy.turbomind.rows import BF16, LINEAR, LINEAR16, MLA, SM75, SM80, SM90, SM120, Row, shape

FOLDED = "needs MLA left plain, since its weights are multiplied with each other; found {} quantised"
ALL_FOLDED = FOLDED.format(
    ", ".join(f"model.layers.0.self_attn.{n}_proj" for n in ("q_b", "kv_b", "o")) + " and 3 more"
)
Q_B_FOLDED = FOLDED.format("model.layers.0.self_attn.q_b_proj, model.layers.1.self_attn.q_b_proj")
FUSED = ("in_proj_qkv", "in_proj_z")
GDN = {**LINEAR, "linear_num_key_heads": 4, "linear_num_value_heads": 8}
LAYER_0 = "model.language_model.layers.0.linear_attn"
HALF_GPTQ = (
    "needs gptq for all of in_proj_qkv, z, b and a or for none;"
    f" found {LAYER_0}.in_proj_qkv, {LAYER_0}.in_proj_z quantised alone"
)
ALL_FUSED = (*FUSED, "in_proj_a", "in_proj_b")
FUSED_OUTPUTS = "needs outputs of linear attention's four inputs together divisible by {}; found {}"
FORMATS = (("awq-g128", "float16"), ("gptq-g128", "float16"), ("fp8-blocks", BF16), ("compressed-g32", BF16))


def glm(**changes: Any) -> dict[str, Any]:
    return {**MLA, "moe_intermediate_size": 256, **changes}


QUANTISED_ROWS = (
    # GLM-4.7-Flash: the matrices of its MLA are multiplied with each other when they are loaded
    *(
        Row(
            name=f"glm {quant} with plain MLA",
            kind="glm",
            dtype=dtype,
            quant=quant,
            shape=glm(plain=("self_attn",)),
            on=(SM80, SM90),
        )
        for quant, dtype in FORMATS
    ),
    *(
        Row(name=f"glm {quant}", kind="glm", dtype=dtype, quant=quant, shape=glm(), on=(SM80, SM90), refused=ALL_FOLDED)
        for quant, dtype in FORMATS
        if quant != "gptq-g128"
    ),
    Row(
        name="glm with plain folded ones",
        kind="glm",
        quant="awq-g128",
        shape=glm(plain=("q_b_proj", "kv_b_proj", "o_proj")),
        on=(SM80,),
    ),
    Row(
        name="glm with plain others",
        kind="glm",
        quant="awq-g128",
        shape=glm(plain=("q_a_proj", "kv_a_proj")),
        on=(SM80,),
        refused=ALL_FOLDED,
    ),
    Row(
        name="glm with a quantised q_b",
        kind="glm",
        quant="awq-g128",
        shape=glm(plain=("kv_b_proj", "o_proj")),
        on=(SM80,),
        refused=Q_B_FOLDED,
    ),
    Row(
        name="glm fp8 with small experts",
        kind="glm",
        dtype=BF16,
        quant="fp8-blocks",
        shape=glm(plain=("self_attn",), moe_intermediate_size=128),
        on=(SM90,),
        refused="needs an intermediate size of 256 or more; found 128",
    ),
    # Qwen3.5's mixtures: experts in one tensor of all, or each in tensors of its own
    *(
        Row(
            name=f"qwen3.5moe {own} {quant} {dtype}",
            kind="qwen3_5moe",
            dtype=dtype,
            quant=quant,
            shape={**LINEAR, "own_experts": own == "own"},
            on=(SM75, SM80) if dtype == "float16" else (SM80, SM90),
        )
        for own in ("own", "packed")
        for quant, dtype in (("", BF16), *FORMATS, ("awq-g128", BF16))
    ),
    *(
        Row(
            name=f"qwen3.5moe awq {dtype} in float16",
            kind="qwen3_5moe",
            dtype=dtype,
            quant="awq-g128",
            shape={**LINEAR, "own_experts": True},
            on=(on,),
            refused=LINEAR16.format(f"{on[0]}.{on[1]}", "awq, which runs in float16"),
        )
        for dtype, on in (("float16", SM90), (BF16, SM120))
    ),
    # linear attention: what is quantised beside plain layers is dequantised, which GPTQ cannot
    *(
        Row(
            name=f"qwen3.5 {quant} beside plain ones",
            kind="qwen3_5",
            dtype=dtype,
            quant=quant,
            shape={**GDN, "also": FUSED, "plain": ("in_proj_a", "in_proj_b")},
            on=(SM80,),
            refused=HALF_GPTQ if quant == "gptq-g128" else "",
        )
        for quant, dtype in FORMATS
    ),
    # all four quantised: one matrix whose outputs the kernels must take
    *(
        Row(
            name=f"qwen3.5 {quant} with all {values} linear heads quantised on {on} x {ways}",
            kind="qwen3_5",
            dtype=dtype,
            quant=quant,
            shape={**LINEAR, "linear_num_key_heads": values // 2, "linear_num_value_heads": values, "also": ALL_FUSED},
            on=(on,),
            ways=ways,
            refused=refused,
        )
        for quant, dtype, values, on, ways, refused in (
            ("gptq-g128", "float16", 8, SM80, 1, FUSED_OUTPUTS.format(32, 3088)),
            ("gptq-g128", "float16", 16, SM75, 1, ""),
            ("gptq-g128", "float16", 16, SM80, 2, FUSED_OUTPUTS.format("32 x 2 GPUs", 6176)),
            ("gptq-g128", "float16", 32, SM80, 2, ""),
            ("compressed-g32", BF16, 16, SM90, 1, FUSED_OUTPUTS.format(64, 6176)),
            ("compressed-g32", BF16, 32, SM90, 1, ""),
            ("fp8-blocks", BF16, 4, SM80, 1, FUSED_OUTPUTS.format(16, 1544)),
            ("fp8-blocks", BF16, 4, SM90, 1, ""),
            (
                "fp8-blocks",
                BF16,
                8,
                SM80,
                2,
                "needs in_proj_b and in_proj_a left plain among several GPUs; found them in fp8",
            ),
        )
    ),
    # models that are divided: what each GPU gets of attention's last matrix must be what its kernels take
    *(
        Row(
            name=f"{quant or dtype} with {heads} heads of {width} on {ways}",
            kind="llama",
            dtype=dtype,
            quant=quant,
            # An MLP that each of four GPUs gets enough of, so that attention alone decides.
            shape=shape(head_dim=width, num_attention_heads=heads, num_key_value_heads=2, intermediate_size=2048),
            on=(on,),
            ways=ways,
            refused=refused,
        )
        for quant, dtype, heads, width, on, ways, refused in (
            ("", "float16", 4, 64, SM80, 2, ""),
            ("", BF16, 4, 64, SM90, 4, ""),
            ("awq-g128", "float16", 4, 128, SM80, 4, ""),
            ("awq-g128", "float16", 4, 64, SM80, 2, ""),
            ("awq-g128", "float16", 4, 64, SM80, 4, "needs heads x head_dim divisible by 128 x 4 GPUs; found 256"),
            ("awq-g128", "float16", 4, 64, SM90, 4, "needs heads x head_dim divisible by 128 x 4 GPUs; found 256"),
            ("compressed-g32", BF16, 4, 64, SM80, 4, ""),
            ("compressed-g32", BF16, 4, 64, SM90, 4, "needs heads x head_dim of 128 x 4 GPUs or more; found 256"),
            ("fp8-blocks", BF16, 4, 128, SM80, 2, ""),
            ("fp8-blocks", BF16, 4, 128, SM90, 2, ""),
            ("fp8-blocks", BF16, 4, 128, SM90, 4, "needs heads x head_dim of 256 x 4 GPUs or more; found 512"),
        )
    ),
    Row(name="linear attention on 2", kind="qwen3_5", dtype=BF16, shape=LINEAR, on=(SM80,), ways=2),
    Row(
        name="linear attention of 3 heads on 2",
        kind="qwen3_5",
        dtype=BF16,
        shape={**LINEAR, "linear_num_key_heads": 3, "linear_num_value_heads": 6},
        on=(SM80,),
        ways=2,
        refused="needs linear_num_key_heads divisible by 2; found 3",
    ),
)

"""Rows of shapes that no kernel fits, and of what the code of its models leaves out."""

from tests.lmdeploy.tiny_checkpoints import WIDE
from tests.lmdeploy.turbomind.rows import BF16, SM75, SM80, SM90, Row, shape

LAYER_PAIR = {**WIDE, "num_hidden_layers": 2}
OWN_HEAD = "needs an lm_head of its own in the checkpoint; found tied embeddings"

SHAPE_ROWS = (
    Row(name="head_dim 64", kind="llama", shape=shape(head_dim=64)),
    Row(name="head_dim 256", kind="llama", shape=shape(head_dim=256)),
    *(
        Row(
            name=f"head_dim {width}",
            kind="llama",
            shape=shape(head_dim=width),
            on=(SM75, SM90),
            refused=f"needs head_dim 64, 128, 192, 256 or 576; found {width}",
        )
        for width in (48, 80, 96, 112)
    ),
    Row(name="head_dim 192", kind="llama", shape=shape(head_dim=192), on=(SM80, SM90)),
    Row(
        name="head_dim 192 on sm75",
        kind="llama",
        shape=shape(head_dim=192),
        on=(SM75,),
        refused="needs compute capability 8.0 for head_dim 192; found 7.5",
    ),
    *(
        Row(
            name=f"{count} experts per token",
            kind="qwen3moe",
            shape=shape(num_experts=16, num_experts_per_tok=count),
            on=(SM80,),
            refused="" if count in (1, 4, 6, 8) else f"needs 1, 2, 4, 6 or 8 experts per token; found {count}",
        )
        for count in (1, 3, 4, 5, 6, 7, 8, 10)
    ),
    Row(
        name="fp8 narrow heads",
        kind="llama",
        dtype=BF16,
        quant="fp8-blocks",
        shape=shape(hidden_size=768, head_dim=64, num_attention_heads=6),
        on=(SM80, SM90),
        refused="needs heads divisible by 4 for fp8 blocks and head_dim 64; found 6 and 2",
    ),
    Row(
        name="fp8 uneven",
        kind="llama",
        dtype=BF16,
        quant="fp8-blocks",
        shape=shape(intermediate_size=576),
        on=(SM80, SM90),
        refused="needs an intermediate size divisible by 128; found 576",
    ),
    Row(name="fp8 small", kind="llama", dtype=BF16, quant="fp8-blocks", shape=shape(hidden_size=128), on=(SM80,)),
    Row(
        name="fp8 small on sm90",
        kind="llama",
        dtype=BF16,
        quant="fp8-blocks",
        shape=shape(hidden_size=128),
        on=(SM90,),
        refused="needs a hidden size of 256 or more; found 128",
    ),
    Row(name="int4 uneven", kind="llama", quant="compressed-g32", shape=shape(hidden_size=544), on=(SM75, SM80)),
    Row(
        name="int4 uneven on sm90",
        kind="llama",
        quant="compressed-g32",
        shape=shape(hidden_size=544),
        on=(SM90,),
        refused="needs a hidden size divisible by 64; found 544",
    ),
    Row(
        name="uneven",
        kind="llama",
        shape=shape(hidden_size=516),
        on=(SM80,),
        refused="needs a hidden size divisible by 8; found 516",
    ),
)

LEFT_OUT_ROWS = (
    Row(name="mixtral tied", kind="mixtral", shape=shape(tie_word_embeddings=True), on=(SM80,), refused=OWN_HEAD),
    Row(
        name="qwen2moe with a dense layer",
        kind="qwen2moe",
        shape={**LAYER_PAIR, "mlp_only_layers": [0]},
        on=(SM80,),
        refused="needs experts in every layer; found dense layers [0]",
    ),
    Row(name="qwen3moe with a dense layer", kind="qwen3moe", shape={**LAYER_PAIR, "mlp_only_layers": [0]}, on=(SM80,)),
    Row(
        name="qwen3moe every other layer",
        kind="qwen3moe",
        shape={**LAYER_PAIR, "decoder_sparse_step": 2},
        on=(SM80,),
        refused="needs experts in every layer (decoder_sparse_step 1); found 2",
    ),
    Row(
        name="gelu",
        kind="llama",
        shape=shape(hidden_act="gelu"),
        on=(SM80,),
        refused="needs hidden_act silu; found gelu",
        loads="silu is computed",
    ),
    Row(
        name="yarn",
        kind="llama",
        shape=shape(
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 1024,
            }
        ),
        on=(SM80,),
        refused=(
            "needs a YaRN factor of max_position_embeddings / original_max_position_embeddings = 1, which it uses"
            " instead of the model's; found 4"
        ),
        loads="the factor is replaced",
    ),
    Row(
        name="yarn without its origin",
        kind="llama",
        shape=shape(
            rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0},
            drop=("rope_parameters.original_max_position_embeddings",),
        ),
        on=(SM80,),
        refused="needs original_max_position_embeddings, without which its YaRN factor is 1; found factor 4 alone",
        loads="the factor is 1",
    ),
    Row(
        name="yarn of what it says",
        kind="llama",
        shape=shape(
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 256,
            }
        ),
        on=(SM80,),
    ),
    Row(
        name="longrope",
        kind="llama",
        shape=shape(
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "long_factor": [1.0] * 64,
                "short_factor": [1.0] * 64,
                "original_max_position_embeddings": 256,
            }
        ),
        on=(SM80,),
        refused="needs rope type default, dynamic, linear, llama3, mrope or yarn; found longrope",
    ),
)

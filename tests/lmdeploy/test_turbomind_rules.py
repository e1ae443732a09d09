"""TurboMind's rules beside what its own library takes: each row is judged by us and loaded by it, on stub libraries."""

from collections.abc import Callable

import pytest

from calibration.backends.turbomind.adapter import FACTS, TurboMind
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import judge
from tests.lmdeploy.conftest import Checkpoints
from tests.lmdeploy.tiny_checkpoints import WIDE
from tests.lmdeploy.turbomind_cases import Case, Outcome, run
from tests.lmdeploy.turbomind_quantised_rows import QUANTISED_ROWS
from tests.lmdeploy.turbomind_rows import (
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

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

LAYER_PAIR = {**WIDE, "num_hidden_layers": 2}
EXPERTS = "needs bfloat16 for experts on compute capability 9.0; found float16"
OWN_HEAD = "needs an lm_head of its own in the checkpoint; found tied embeddings"
KNOWN = "needs weights without quantization or in awq, gptq, fp8, compressed-tensors or mxfp4; found"
GEMM = 'needs "version": "gemm" in quantization_config, so written; found {}'
BESIDE = "needs the format in config.json's quantization_config, which alone is read; found it elsewhere"
NO_BF16 = "needs compute capability 8.0 or newer for bfloat16; found 7.5 (a GPU)"
HALVED = "computed in float16, with a warning in a log"
AS_IT_IS = "needs a checkpoint that is not float16, which the variant `default` computes as it is"

ROWS = (
    # what is taken
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
    # formats
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
    # shapes
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
    # what its models leave out
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

EVERY_ROW = (*ROWS, *QUANTISED_ROWS)
CASES = [(row, capability) for row in EVERY_ROW for capability in row.on]


def named(row: Row, capability: tuple[int, int]) -> str:
    return f"{row.name} @ {capability[0]}.{capability[1]}"


@pytest.fixture(scope="module")
def outcomes(checkpoint: Checkpoints) -> dict[str, Outcome]:
    """What the library made of every case."""
    return run(
        Case(
            name=named(row, capability),
            model_dir=str(checkpoint(row.kind, dtype=row.dtype, quant=row.quant, **row.shape)),
            capability=capability,
            dtype=row.dtype,
            tensor_parallel=row.ways,
            variant=row.variant,
        )
        for row, capability in CASES
    )


@pytest.mark.parametrize(("row", "capability"), CASES, ids=[named(*case) for case in CASES])
def test_rules_and_library_agree(
    row: Row,
    capability: tuple[int, int],
    outcomes: dict[str, Outcome],
    checkpoint: Checkpoints,
    gpu_host: Callable[..., HostSpec],
) -> None:
    model = ModelSpec.read(str(checkpoint(row.kind, dtype=row.dtype, quant=row.quant, **row.shape)))
    backend = TurboMind()
    demand = Demand.of(workload=Workload(prompt_tokens=16, output_tokens=8), tensor_parallel=row.ways)
    verdicts = judge(model, gpu_host(capability, count=row.ways), demand, {backend.name: backend})
    (verdict,) = (v for v in verdicts if v.candidate.variant == row.variant)
    # This host has none of the libraries that `importable` looks for.
    assert [reason.text for reason in verdict.reasons if reason.rule != "importable"] == (
        [row.refused] if row.refused else []
    )
    found = outcomes[named(row, capability)]
    if row.refused and not row.loads:
        assert found.end in ("raised", "aborted"), found
    else:
        assert (found.end, found.tokens) == ("ok", ((5, 5, 5), (5, 5, 5))), found


def test_scales_that_are_never_read_make_a_wrong_model(outcomes: dict[str, Outcome]) -> None:
    unread = outcomes["fp8 tensor @ 8.0"].unread
    assert {name.rsplit(".", 1)[-1] for name in unread} == {"weight_scale", "input_scale"}
    assert outcomes["fp8 @ 8.0"].unread == ()


def test_is_supported_promises_more(outcomes: dict[str, Outcome], checkpoint: Checkpoints) -> None:
    """LMDeploy's own choice takes TurboMind for what TurboMind then refuses, or computes wrong."""
    from lmdeploy.turbomind.supported_models import is_supported

    promised = {
        row.name
        for row, capability in CASES
        if outcomes[named(row, capability)].end != "ok"
        and is_supported(str(checkpoint(row.kind, dtype=row.dtype, quant=row.quant, **row.shape)))
    }
    assert promised == {row.name for row in EVERY_ROW if row.refused and not row.loads} - {"smooth_quant"}


def test_facts_are_the_engines_own_tables() -> None:
    from lmdeploy.turbomind.supported_models import SUPPORTED_ARCHS

    assert FACTS.architectures == frozenset(SUPPORTED_ARCHS)

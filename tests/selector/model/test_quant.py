"""Each folder of tests/data/models is named after the label its config must be read as, and its model type."""

from pathlib import Path

import pytest

from calibration.errors import ModelError
from selector.model.fields import Fields
from selector.model.quant.format import QuantFormat
from selector.model.quant.readers import read_quant
from selector.model.spec import ModelSpec

GOLDEN = Path(__file__).parents[2] / "data" / "models"
FOLDERS = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_read_as_its_name_says(name: str) -> None:
    spec = ModelSpec.read(str(GOLDEN / name))
    assert f"{spec.quant.label}-{spec.model_type}" == name


def test_every_method_of_the_issue_has_a_folder() -> None:
    methods = {ModelSpec.read(str(GOLDEN / name)).quant.method for name in FOLDERS}
    assert methods == {
        *("none", "awq", "gptq", "fp8", "modelopt", "compressed-tensors", "mxfp4", "bitsandbytes", "hqq", "quark"),
        *("smooth_quant", "gguf"),
    }


WHOLE = {
    "awq-4bit-g128-qwen2": QuantFormat(
        method="awq", bits=4, group_size=128, symmetric=False, zero_point=True, version="gemm", kind="int"
    ),
    "gptq-4bit-channel-desc_act-asym-llama": QuantFormat(
        method="gptq",
        bits=4,
        group_size=-1,
        symmetric=False,
        desc_act=True,
        zero_point=True,
        version="gptq",
        kind="int",
    ),
    "fp8-e4m3-128x128-qwen3": QuantFormat(
        method="fp8",
        bits=8,
        block_shape=(128, 128),
        activation_scheme="dynamic",
        activation_bits=8,
        format="e4m3",
        strategy="block",
        kind="float",
    ),
    "fp8-e4m3-static-llama": QuantFormat(
        method="fp8",
        bits=8,
        activation_scheme="static",
        activation_bits=8,
        format="e4m3",
        strategy="tensor",
        kind="float",
        ignored=("lm_head",),
    ),
    "modelopt-nvfp4-qwen3": QuantFormat(
        method="modelopt",
        bits=4,
        group_size=16,
        activation_bits=4,
        format="nvfp4",
        strategy="group",
        kind="float",
        kv_cache="fp8",
        ignored=("lm_head",),
    ),
    "modelopt-fp8-llama": QuantFormat(
        method="modelopt",
        bits=8,
        activation_scheme="static",
        activation_bits=8,
        format="fp8",
        strategy="tensor",
        kind="float",
        kv_cache="fp8",
        ignored=("lm_head",),
    ),
    "compressed-tensors-4bit-g128-llama": QuantFormat(
        method="compressed-tensors",
        bits=4,
        group_size=128,
        symmetric=True,
        desc_act=False,
        zero_point=False,
        format="pack-quantized",
        strategy="group",
        kind="int",
        ignored=("lm_head",),
    ),
    "compressed-tensors-fp8-tensor-a8-static-llama": QuantFormat(
        method="compressed-tensors",
        bits=8,
        symmetric=True,
        desc_act=False,
        zero_point=False,
        activation_scheme="static",
        activation_bits=8,
        format="float-quantized",
        strategy="tensor",
        kind="float",
        kv_cache="fp8",
        ignored=("lm_head",),
    ),
    "hqq-4bit-g64-llama": QuantFormat(
        method="hqq", bits=4, group_size=64, zero_point=True, kind="int", ignored=("lm_head",)
    ),
    "bitsandbytes-4bit-nf4-llama": QuantFormat(method="bitsandbytes", bits=4, format="nf4", kind="float"),
    "quark-mxfp4-a4-llama": QuantFormat(
        method="quark",
        bits=4,
        group_size=32,
        symmetric=True,
        zero_point=False,
        activation_scheme="dynamic",
        activation_bits=4,
        format="fp4",
        strategy="group",
        kind="float",
        ignored=("lm_head",),
    ),
    "smooth_quant-int8-qwen2": QuantFormat(
        method="smooth_quant",
        bits=8,
        symmetric=True,
        activation_scheme="dynamic",
        activation_bits=8,
        format="int8",
        strategy="channel",
        kind="int",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_field(name: str) -> None:
    assert ModelSpec.read(str(GOLDEN / name)).quant == WHOLE[name]


def test_groups_of_a_mixed_checkpoint_are_kept_apart() -> None:
    quant = ModelSpec.read(str(GOLDEN / "compressed-tensors-mixed-4bit-g128+fp8-channel-a8-llama")).quant
    assert [(one.bits, one.group_size, one.format, one.activation_bits) for one in quant.groups] == [
        (4, 128, "pack-quantized", None),
        (8, -1, "float-quantized", 8),
    ]


def quantized(**declared: object) -> dict[str, object]:
    return {"quantization_config": declared}


@pytest.mark.parametrize(
    ("config", "label"),
    [
        ({}, "none"),
        ({"quantization_config": None}, "none"),
        ({"quantization_config": {}}, "none"),
        (quantized(quant_method="awq", bits=4, group_size=128, version="gemv", zero_point=True), "awq-4bit-g128-gemv"),
        (quantized(quant_method="awq", bits=4, group_size=64, version="gemm", zero_point=False), "awq-4bit-g64-sym"),
        (quantized(quant_method="awq", bits=4, group_size=-1, version="gemm"), "awq-4bit-channel"),
        (quantized(w_bit=4, q_group_size=128, zero_point=True, version="GEMM"), "awq-4bit-g128"),
        (quantized(quant_method="gptq", bits=4, group_size=128, is_marlin_format=True), "gptq-4bit-g128-marlin"),
        (quantized(bits=8, group_size=32, desc_act=False, sym=True, true_sequential=True), "gptq-8bit-g32"),
        (quantized(quant_method="fp8", fmt="e5m2", activation_scheme="dynamic"), "fp8-e5m2-dynamic"),
        (
            quantized(quant_method="fp8", activation_scheme="static", weight_block_size=[64, 128]),
            "fp8-e4m3-64x128-static",
        ),
        (
            {"expert_dtype": "fp4"} | quantized(quant_method="fp8", weight_block_size=[128, 128]),
            "fp8-mixed-e4m3-128x128+mxfp4",
        ),
        (quantized(load_in_8bit=True), "bitsandbytes-8bit"),
        (quantized(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="fp4"), "bitsandbytes-4bit-fp4"),
        (quantized(quant_algo="W4A16_AWQ", group_size=128), "modelopt-w4a16_awq"),
        (quantized(quant_algo="FP8", quant_method="modelopt"), "modelopt-fp8"),
        (quantized(quant_algo="SOMETHING_4"), "modelopt-something_4"),
        ({"compression_config": {"config_groups": {}, "format": "dense"}}, "compressed-tensors"),
        (quantized(quant_method="hqq", quant_config={"weight_quant_params": {"nbits": 2}}), "hqq-2bit"),
        (quantized(quant_method="aqlm", nbits_per_codebook=16), "aqlm"),
        (quantized(quant_method="exl2", bits=4.65), "exl2-4.65bpw"),
        (quantized(quant_method="auto-round", bits=4, group_size=128, sym=True), "auto-round-4bit-g128"),
        (quantized(quant_method="eetq"), "eetq"),
        (quantized(quant_method="torchao", quant_type={"default": {}}), "torchao"),
    ],
)
def test_label(config: dict[str, object], label: str) -> None:
    assert read_quant(Fields("config.json", config)).label == label


@pytest.mark.parametrize(
    ("label", "bits"),
    [
        ("none-mistral", None),
        ("awq-4bit-g128-qwen2", 4 + 20 / 128),
        ("gptq-4bit-g128-qwen2", 4.125),
        ("mxfp4-gpt_oss", 4.25),
        ("modelopt-nvfp4-qwen3", 4.5),
        ("fp8-e4m3-128x128-qwen3", 8.0),
        ("compressed-tensors-mixed-4bit-g128+fp8-channel-a8-llama", 4.125),
    ],
)
def test_bits_of_a_weight_count_its_scales(label: str, bits: float | None) -> None:
    assert ModelSpec.read(str(GOLDEN / label)).quant.weight_bits == bits


def test_modelopts_own_file_goes_before_config_json() -> None:
    declared = quantized(quant_method="fp8", weight_block_size=[128, 128])
    beside = {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    assert (
        read_quant(Fields("config.json", declared), beside=("hf_quant_config.json", beside)).label == "modelopt-nvfp4"
    )


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ([], "config.json: quantization_config needs an object; found []"),
        ({"bits": 4}, "config.json: quantization_config has no quant_method"),
        ({"quant_method": 4}, "config.json: quantization_config: quant_method needs a short text; found 4"),
        (
            {"quant_method": "a b"},
            "config.json: quantization_config: quant_method needs the name of a method; found 'a b'",
        ),
        (
            {"quant_method": "awq", "bits": "4"},
            "config.json: quantization_config: bits needs a whole number from 1 to 64; found '4'",
        ),
        ({"quant_method": "gptq"}, "config.json: quantization_config has no bits"),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 0},
            "config.json: quantization_config: group_size needs -1 or a whole number from 1; found 0",
        ),
        (
            {"quant_method": "gptq", "bits": 4, "sym": "yes"},
            "config.json: quantization_config: sym needs true or false; found 'yes'",
        ),
        (
            {"quant_method": "fp8", "weight_block_size": [128]},
            "config.json: quantization_config: weight_block_size needs two whole numbers; found [128]",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": 3}},
            "config.json: quantization_config: config_groups: group_0 needs an object; found 3",
        ),
        ({"quant_method": "modelopt"}, "config.json: quantization_config has no quant_algo"),
    ],
)
def test_what_it_refuses(declared: object, message: str) -> None:
    with pytest.raises(ModelError) as refused:
        read_quant(Fields("config.json", {"quantization_config": declared}))
    assert (refused.value.message, refused.value.mend) == (
        message,
        "compare config.json with the published one, or fetch it again",
    )

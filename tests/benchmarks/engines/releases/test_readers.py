"""What is read of a release, in each layout that an engine's releases have had: small files in the same form."""

import pytest

from benchmarks.engines.releases.readers import (
    read_ctranslate2,
    read_llamacpp,
    read_onnxruntime,
    read_optimum_intel,
    read_pytorch,
    read_transformers,
    read_turbomind,
    read_vllm,
)
from tests.benchmarks.engines.releases.layouts import (
    CONFIG,
    CONVERTER,
    LINEAR,
    MODULE_MAP,
    PLAIN,
    REMOVED,
    SUPPORTED_MODELS,
)


@pytest.mark.parametrize(
    ("converter", "function"),
    [
        ("lmdeploy/turbomind/deploy/converter.py", "get_tm_model"),
        ("lmdeploy/turbomind/deploy/converter.py", "get_tm_config"),
        ("lmdeploy/turbomind/converter.py", "get_tm_config"),
    ],
)
def test_turbomind(converter: str, function: str) -> None:
    table = "lmdeploy/turbomind/supported_models.py"
    code = CONVERTER.replace("get_tm_config", function)
    contents = read_turbomind(PLAIN | {table: SUPPORTED_MODELS, converter: code})
    assert contents.architectures == {"LlamaForCausalLM": f"{table}:5"}
    assert contents.quant_methods == {"awq": f"{converter}:3", "gptq": f"{converter}:5", "fp8": f"{converter}:5"}
    assert "ElsewhereForCausalLM" in contents.mentioned
    assert "the first" not in contents.mentioned


@pytest.mark.parametrize(
    ("files", "quants", "gone"),
    [
        (
            {"lmdeploy/pytorch/config.py": "class CacheConfig: ...\n", "lmdeploy/pytorch/nn/linear.py": LINEAR},
            {"awq": "lmdeploy/pytorch/nn/linear.py:4", "smooth_quant": "lmdeploy/pytorch/nn/linear.py:6"},
            set[str](),
        ),
        (
            {"lmdeploy/pytorch/config.py": "", "lmdeploy/pytorch/nn/linear/__init__.py": LINEAR},
            {
                "awq": "lmdeploy/pytorch/nn/linear/__init__.py:4",
                "smooth_quant": "lmdeploy/pytorch/nn/linear/__init__.py:6",
            },
            set[str](),
        ),
        (
            {"lmdeploy/pytorch/config.py": CONFIG, "lmdeploy/pytorch/models/module_map.py": MODULE_MAP + REMOVED},
            {"awq": "lmdeploy/pytorch/config.py:6", "fp8": "lmdeploy/pytorch/config.py:8"},
            {"QWenLMHeadModel"},
        ),
    ],
)
def test_pytorch(files: dict[str, str], quants: dict[str, str], gone: set[str]) -> None:
    table = "lmdeploy/pytorch/models/module_map.py"
    contents = read_pytorch(PLAIN | {table: MODULE_MAP} | files)
    assert contents.architectures == {"LlamaForCausalLM": f"{table}:6", "Qwen3ForCausalLM": f"{table}:8"}
    assert contents.quant_methods == quants
    assert contents.gone == gone


def test_transformers() -> None:
    table, quantizers = "transformers/models/auto/modeling_auto.py", "transformers/quantizers/auto.py"
    auto = """
from collections import OrderedDict
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict(
    [
        ("llama", "LlamaForCausalLM"),
        ("funnel", ("FunnelLM", "FunnelBaseLM")),
    ]
)
MODEL_FOR_MASKED_LM_MAPPING_NAMES = OrderedDict([("bert", "BertForMaskedLM")])
"""
    contents = read_transformers(
        PLAIN | {table: auto, quantizers: 'AUTO_QUANTIZER_MAPPING = {\n    "awq": object,\n    "fp8": object,\n}\n'}
    )
    assert contents.architectures == {
        "LlamaForCausalLM": f"{table}:5",
        "FunnelLM": f"{table}:6",
        "FunnelBaseLM": f"{table}:6",
    }
    assert contents.quant_methods == {"awq": f"{quantizers}:2", "fp8": f"{quantizers}:3"}
    assert contents.gone == {"bert", "BertForMaskedLM"}


@pytest.mark.parametrize(
    "quantization",
    [
        'QUANTIZATION_METHODS: List[str] = [\n    "awq",\n]\n',
        'QuantizationMethods = Literal[\n    "awq",\n    "fp8",\n]\nQUANTIZATION_METHODS = list(get_args(Methods))\n',
    ],
)
def test_vllm(quantization: str) -> None:
    table, methods = (
        "vllm/model_executor/models/registry.py",
        "vllm/model_executor/layers/quantization/__init__.py",
    )
    registry = """
_TEXT_GENERATION_MODELS = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),  # a comment
}
_EMBEDDING_MODELS = {
    "BertModel": ("bert", "BertEmbeddingModel"),
    **{k: v for k, v in _TEXT_GENERATION_MODELS.items()},
}
_MULTIMODAL_MODELS = {
    "LlavaForConditionalGeneration": ("llava", "LlavaForConditionalGeneration"),
}
_TRANSFORMERS_SUPPORTED_MODELS = {
    "SmolLM3ForCausalLM": ("transformers", "TransformersForCausalLM"),
}
_PREVIOUSLY_SUPPORTED_MODELS = {"OldForCausalLM": "0.9"}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_EMBEDDING_MODELS}
"""
    contents = read_vllm(PLAIN | {table: registry, methods: quantization})
    assert contents.architectures == {
        "LlavaForConditionalGeneration": f"{table}:10",
        "LlamaForCausalLM": f"{table}:3",
        "SmolLM3ForCausalLM": f"{table}:13",
    }
    both = {"awq": f"{methods}:2", "fp8": f"{methods}:3"}
    assert contents.quant_methods == {name: both[name] for name in both if f'"{name}"' in quantization}
    assert contents.gone == {"BertModel", "bert", "BertEmbeddingModel", "OldForCausalLM", "0.9"}


def test_llamacpp_by_decorators() -> None:
    file = "thirdparty/llama.cpp/convert_hf_to_gguf.py"
    code = """
class ModelBase: ...
class TextModel(ModelBase): ...
class MmprojModel(ModelBase): ...
@ModelBase.register(
    "LlamaForCausalLM",
    "LLaMAForCausalLM",
)
class LlamaModel(TextModel): ...
@ModelBase.register("LlavaForConditionalGeneration")
class Vision(MmprojModel): ...
@ModelBase.register("PixtralForConditionalGeneration")
class Pixtral(Vision): ...
@Model.register("GPT2LMHeadModel")
class Gpt2(TextModel): ...
"""
    contents = read_llamacpp(PLAIN | {file: code})
    assert contents.architectures == {
        "LlamaForCausalLM": f"{file}:5",
        "LLaMAForCausalLM": f"{file}:5",
        "GPT2LMHeadModel": f"{file}:14",
    }
    assert contents.gone == {"LlavaForConditionalGeneration", "PixtralForConditionalGeneration"}


def test_llamacpp_by_its_table() -> None:
    file = "thirdparty/llama.cpp/conversion/__init__.py"
    code = """
TEXT_MODEL_MAP: dict[str, str] = {
    "LlamaForCausalLM": "llama",
}
MMPROJ_MODEL_MAP: dict[str, str] = {"LlavaForConditionalGeneration": "llava"}
"""
    contents = read_llamacpp(PLAIN | {file: code, "thirdparty/llama.cpp/convert_hf_to_gguf.py": "import conversion"})
    assert contents.architectures == {"LlamaForCausalLM": f"{file}:3"}
    assert contents.gone == {"LlavaForConditionalGeneration", "llava"}


def test_onnxruntime() -> None:
    file = "onnxruntime_genai/models/builder.py"
    code = """
def create_model(config):
    if config.architectures[0] == "ChatGLMModel" or config.architectures[0] == "ChatGLMForConditionalGeneration":
        return 1
    elif config.architectures[0] == "Phi3ForCausalLM" and config.long:
        return 2
    elif config.architectures[0] == "Phi3ForCausalLM":
        return 3
    raise NotImplementedError(config.other == "OtherForCausalLM")
"""
    assert read_onnxruntime(PLAIN | {file: code}).architectures == {
        "ChatGLMModel": f"{file}:3",
        "ChatGLMForConditionalGeneration": f"{file}:3",
        "Phi3ForCausalLM": f"{file}:5",
    }


def test_ctranslate2() -> None:
    file = "ctranslate2/converters/transformers.py"
    code = """
class ModelLoader:
    @property
    def architecture_name(self):
        return None
@register_loader("Gemma3TextConfig")
@register_loader("Gemma3Config")
class Gemma3Loader(ModelLoader):
    @property
    def architecture_name(self):
        return "Gemma3ForCausalLM"
@register_loader("RWConfig")
class RWLoader(ModelLoader):
    @property
    def architecture_name(self):
        return "AutoModelForCausalLM"
@register_loader("FalconConfig")
class FalconLoader(RWLoader): ...
"""
    assert read_ctranslate2(PLAIN | {file: code}).architectures == {
        "Gemma3ForCausalLM": f"{file}:6",
        "RWForCausalLM": f"{file}:12",
        "FalconForCausalLM": f"{file}:17",
    }


def test_optimum_intel() -> None:
    file = "optimum/exporters/openvino/model_configs.py"
    code = """
TASKS = ["text-generation", "text-generation-with-past"]
register_in_tasks_manager = TasksManager.create_register("openvino")
@register_in_tasks_manager("qwen2", *["text-generation", "text-generation-with-past"], library_name="transformers")
class Qwen2: ...
@register_in_tasks_manager("qwen3-moe", *TASKS)
class Qwen3(Qwen2): ...
@register_in_tasks_manager("clip", *["feature-extraction"], library_name="transformers")
class Clip: ...
"""
    contents = read_optimum_intel(PLAIN | {file: code})
    assert contents.architectures == {"qwen2": f"{file}:4", "qwen3_moe": f"{file}:6"}
    assert contents.gone == {"clip"}

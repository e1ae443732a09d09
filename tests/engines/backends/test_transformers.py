"""The transformers backend: its decode loop against plain forwards over the whole sequence, and its facts."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from calibration.backend import Engine
from calibration.backends.transformers import TransformersBackend
from calibration.backends.transformers.memory import STACKED_EITHER_WAY, STACKED_IN_FILE
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.environments.distributions import requirement_name
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.quant.format import QuantFormat
from selector.model.spec import ModelSpec
from selector.rules.judge import judge
from tests.engines import tiny_models
from tests.engines.printed_commands import DEMAND, deployed, free_port, printed, served
from tests.engines.tiny_configs import CONFIGS
from tests.engines.tiny_models import NEW_TOKENS, asked_prompts, rows, unlike
from tests.selector.conftest import spec

BACKEND = TransformersBackend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]


def unlike_plain_forwards(variant: str, folder: Path) -> list[str]:
    """Greedy paths and scores, each beside forwards without a cache."""
    import torch
    from transformers import AutoModelForCausalLM

    engine = tiny_models.load(BACKEND, variant, folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def scored(sequence: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return plain(torch.tensor([sequence]), use_cache=False).logits[0]

    asked = asked_prompts()
    made = engine.generate(asked, NEW_TOKENS)
    found = []
    for prompt, path in zip(asked, made.tokens, strict=True):
        best = scored([*prompt, *path])[len(prompt) - 1 : -1].argmax(-1).tolist()
        if list(path) != best:
            found.append(f"greedy tokens {path}, not {best}")
        if engine.generate([prompt], NEW_TOKENS).tokens != (path,):
            found.append("a prompt alone")
    along = made.tokens[0]
    expected = scored([*asked[0], *along])[len(asked[0]) - 1 :]
    if not (torch.from_numpy(rows(engine.score(asked[0], along))) - expected).abs().max() < 1e-4:
        found.append("scores")
    engine.close()
    return found


@pytest.mark.parametrize(
    "name",
    ["llama", "llama3", "mistral-window", "qwen2", "qwen3", "qwen3-moe", "gemma3", "gpt2", "recurrent-gemma"],
)
def test_decoding_through_the_cache_is_a_plain_forward(name: str, tiny: Folder) -> None:
    assert unlike_plain_forwards("sdpa", tiny(name)) == []


@pytest.mark.parametrize("name", ["gemma2", "mamba", "granite"])
def test_eager_runs_what_sdpa_does_not(name: str, tiny: Folder) -> None:
    assert unlike_plain_forwards("eager", tiny(name)) == []


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt2"])
def test_a_config_in_the_style_of_transformers_5(name: str, tiny: Folder) -> None:
    assert unlike_plain_forwards("sdpa", tiny(name, "transformers-5")) == []


@pytest.mark.slow
def test_compiled_steps_over_a_static_cache(tiny: Folder) -> None:
    assert unlike_plain_forwards("compile", tiny("llama")) == []


def test_arrivals_are_one_a_token_and_shared_by_the_batch(tiny: Folder) -> None:
    made = tiny_models.load(BACKEND, "sdpa", tiny("llama")).generate(asked_prompts(), NEW_TOKENS)
    assert len(set(made.arrivals)) == 1 and len(made.arrivals) == 3
    assert len(made.arrivals[0]) == NEW_TOKENS == len(set(made.arrivals[0]))
    assert made.arrivals[0][0] > 0 and list(made.arrivals[0]) == sorted(made.arrivals[0])


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [("sdpa", "bfloat16"), ("eager", "bfloat16"), ("sdpa-fp32", "float32"), ("eager-fp32", "float32")],
)
def test_a_variant_computes_in_its_precision(variant: str, dtype: str, tiny: Folder) -> None:
    engine: Any = tiny_models.load(BACKEND, variant, tiny("llama-bf16"))
    assert str(engine._model.dtype) == f"torch.{dtype}"
    assert rows(engine.score(asked_prompts()[0], ())).dtype == "float32"


@pytest.mark.parametrize("name", ["llama", "llama-bf16", "qwen3"])
def test_int8_is_near_but_not_the_same(name: str, tiny: Folder, reference: Callable[..., Engine]) -> None:
    engine: Any = tiny_models.load(BACKEND, "int8", tiny(name))
    assert type(engine._model.model.layers[0].mlp.up_proj.weight).__name__ == "Int8Tensor"
    assert [finding for finding in unlike(engine, reference(name)) if finding != "greedy tokens"] == ["scores"]
    assert "scores" not in unlike(engine, reference(name), within=0.5)


def test_int8_says_what_it_needs() -> None:
    int8 = BACKEND.variant("int8")
    assert int8.packages == ("torchao>=0.15",) and int8.on_request
    model = spec(dtype="float16", quant=QuantFormat(method="gptq", bits=4))
    assert BACKEND.fits(model, int8) == ["needs unquantised weights to round them to int8; found gptq-4bit"]
    assert type(BACKEND.engine_config(int8, deployed("gpt2"))["quantization_config"]).__name__ == "TorchAoConfig"


def test_a_folder_without_weights_is_the_engines_own_error(tiny: Folder, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny("llama") / "config.json").read_bytes())
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        tiny_models.load(BACKEND, "sdpa", tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(tiny: Folder, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny("llama"), tmp_path / "copy")
    weights = load_file(tmp_path / "copy/model.safetensors")
    del weights["model.norm.weight"], weights["lm_head.weight"]
    save_file(weights, tmp_path / "copy/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"^needs all weights of LlamaForCausalLM in the checkpoint; 2 are missing: lm_head\.weight$"
    ):
        tiny_models.load(BACKEND, "sdpa", tmp_path / "copy")


def test_what_fits() -> None:
    def reasons(variant: str, architecture: str, dtype: str = "bfloat16", quant: str = "none") -> list[str]:
        model = spec(architecture=architecture, dtype=dtype, quant=QuantFormat(method=quant))
        return BACKEND.fits(model, BACKEND.variant(variant))

    assert reasons("sdpa", "LlamaForCausalLM") == []
    assert reasons("sdpa-fp32", "LlamaForCausalLM") == []
    assert reasons("sdpa-fp32", "GPT2LMHeadModel", "float32") == [
        "needs a 16-bit model, since sdpa runs others in fp32; found float32"
    ]
    assert reasons("eager-fp32", "LlamaForCausalLM", quant="gptq") == [
        "needs unquantised weights to compute them in fp32; found gptq"
    ]


def test_what_classes_say_of_sdpa_is_read_as_they_mean_it() -> None:
    """Of every causal model: as text, as listed, and as the class has it."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    here = HostSpec.detect()
    variant = BACKEND.variant("sdpa")
    assert variant.class_flag is not None
    for model_type, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        found = getattr(getattr(transformers, name), variant.class_flag.name)
        model = spec(architecture=name, model_type=model_type)
        [verdict] = [v for v in judge(model, here, Demand()) if v.candidate.label == "transformers:sdpa"]
        assert (name, "class_flag" not in {reason.rule for reason in verdict.reasons}) == (name, found)
        assert (name, name not in variant.class_flag.without) == (name, found)


@pytest.mark.parametrize("model_type", ["qwen3_5", "llama4"])
def test_the_language_model_of_one_that_sees_is_the_same(model_type: str, tmp_path: Path) -> None:
    """What the rules promise of a checkpoint with a vision part: AutoModelForCausalLM builds its text alone."""
    import torch
    from transformers import AutoModelForImageTextToText

    from benchmarks.rule_truth.cases.architectures import config_of

    torch.manual_seed(0)
    whole: Any = AutoModelForImageTextToText.from_config(config_of(model_type), dtype=torch.float32).eval()
    whole.save_pretrained(tmp_path)
    model = ModelSpec.read(tmp_path)
    assert model.vision and model.architecture == type(whole).__name__
    [verdict] = [v for v in judge(model, HostSpec.detect(), Demand()) if v.candidate.label == "transformers:sdpa"]
    assert "architecture" not in {reason.rule for reason in verdict.reasons}
    asked = asked_prompts()[0]
    with torch.inference_mode():
        expected = whole(input_ids=torch.tensor([asked])).logits[0, -1]
    engine = tiny_models.load(BACKEND, "sdpa", tmp_path)
    assert (torch.from_numpy(rows(engine.score(asked, ())))[0] - expected).abs().max() < 1e-4


def test_the_table_of_architectures_names_classes_in_quotes() -> None:
    import transformers

    assert BACKEND.facts.architectures_table is not None
    text = (Path(transformers.__file__).parent / BACKEND.facts.architectures_table[1]).read_text()
    named = set(re.findall(r'"(\w+)"', text))
    assert {"LlamaForCausalLM", "GPT2LMHeadModel", "Qwen3MoeForCausalLM", "Gemma3ForCausalLM"} <= named
    assert "NoSuchForCausalLM" not in named


def test_its_config_loads(tiny: Folder) -> None:
    from transformers import AutoModelForCausalLM

    keywords = BACKEND.engine_config(BACKEND.variant("eager"), deployed("llama"))
    assert keywords == {"attn_implementation": "eager", "dtype": "auto"}
    trusting = deployed("llama", demand=Demand(trust_remote_code=True))
    assert BACKEND.engine_config(BACKEND.variant("eager"), trusting) == {**keywords, "trust_remote_code": True}
    model = AutoModelForCausalLM.from_pretrained(tiny("llama-bf16"), **keywords)
    assert (str(model.dtype), model.config._attn_implementation) == ("torch.bfloat16", "eager")


def test_its_command_serves(tiny: Folder, tmp_path: Path) -> None:
    command = printed(BACKEND, "eager", tiny("llama"))
    assert command == f"transformers serve {tiny('llama')} --attn-implementation eager --dtype auto"
    port = free_port()
    with served(f"{command} --port {port}", port, tmp_path) as server:
        answer = server.ask("/v1/completions", {"model": str(tiny("llama")), "prompt": "hello", "max_tokens": 4})
    assert answer["usage"]["completion_tokens"] == 4


def test_its_command_runs_code_of_the_repository_where_that_is_allowed(tiny: Folder, tmp_path: Path) -> None:
    trusting = replace(DEMAND, trust_remote_code=True)
    command = printed(BACKEND, "sdpa-fp32", tiny("llama"), demand=trusting)
    assert command.endswith("--attn-implementation sdpa --dtype float32 --trust-remote-code")
    port = free_port()
    with served(f"{command} --port {port}", port, tmp_path) as server:
        assert server.ask("/health") == {"status": "ok"}
    compiled = printed(BACKEND, "compile", tiny("llama"))
    assert compiled.endswith("--attn-implementation sdpa --dtype auto --compile")


def test_it_has_no_command_where_its_server_cannot(gguf: Path) -> None:
    """With int8 of torchao's, and from a .gguf file."""
    assert BACKEND.command(BACKEND.variant("int8"), deployed("gpt2")) is None
    assert BACKEND.command(BACKEND.variant("eager"), deployed(str(gguf))) is None


ASKED_BY = {
    "accelerate": "accelerate",
    "aqlm": "aqlm",
    "auto_round": "auto-round",
    "bitsandbytes": "bitsandbytes",
    "compressed_tensors": "compressed-tensors",
    "fbgemm_gpu": "fbgemm-gpu",
    "flute": "flute-kernel",
    "fouroversix": "fouroversix",
    "fp_quant": "fp-quant",
    "gptqmodel": "gptqmodel",
    "hadamard": "fast-hadamard-transform",
    "hqq": "hqq",
    "kernels": "kernels",
    "optimum": "optimum",
    "optimum_quanto": "optimum-quanto",
    "quark": "amd-quark",
    "qutlass": "qutlass",
    "sinq": "sinq",
    "spqr": "spqr-quant",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""is_X_available of transformers: the distribution that it looks for."""
NOT_HERE = {"fbgemm_fp8": {"kernels"}, "metal": {"kernels"}}
"""Asked for on devices that no backend of ours has: an XPU, Apple's GPU."""


def test_quantizers_ask_for_what_the_facts_say() -> None:
    import inspect

    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING
    from transformers.utils import import_utils

    facts = {fact.method: fact for fact in BACKEND.facts.quants}
    methods = {name.partition("_4bit")[0].partition("_8bit")[0] for name in AUTO_QUANTIZER_MAPPING}
    assert methods - set(facts) == {"nvfp4"}, "of which transformers loads no checkpoint"
    assert set(facts) <= methods
    for name, quantizer in AUTO_QUANTIZER_MAPPING.items():
        method = name.partition("_4bit")[0].partition("_8bit")[0]
        if method in {"gguf", "nvfp4"}:  # gguf is asked for elsewhere
            continue
        verbs = [vars(quantizer).get(verb) for verb in ("__init__", "validate_environment")]
        text = "".join(inspect.getsource(verb) for verb in verbs if verb is not None)
        asked = {ASKED_BY[found] for found in re.findall(r"not is_(\w+)_available\(", text) if found in ASKED_BY}
        assert asked - NOT_HERE.get(method, set()) == {requirement_name(r) for r in facts[method].packages}, method
    named = ("accelerate", "bitsandbytes", "compressed-tensors", "hqq", "kernels", "torchao", "vptq")
    told = {requirement_name(r): r.partition(">=")[2].partition(",")[0] for f in facts.values() for r in f.packages}
    for distribution in named:
        constant = f"{distribution.upper().replace('-', '_')}_MIN_VERSION"
        assert Version(told[distribution]) == Version(getattr(import_utils, constant)), distribution


def test_falcons_alibi_is_added_twice_by_eager_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of each bias eager attention scores as SDPA does with the whole of it."""
    from transformers.models.falcon import modeling_falcon

    source, folder = tmp_path / "config", tmp_path / "falcon"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({**CONFIGS["falcon"], "alibi": True}))
    write_random_checkpoint(source, folder)
    prompt = asked_prompts()[0]
    eager, sdpa = (tiny_models.load(BACKEND, variant, folder) for variant in ("eager", "sdpa"))
    right = rows(sdpa.score(prompt, []))
    assert abs(rows(eager.score(prompt, [])) - right).max() > 0.01
    whole: Any = modeling_falcon.build_alibi_tensor
    monkeypatch.setattr(modeling_falcon, "build_alibi_tensor", lambda *given, **named: whole(*given, **named) / 2)
    assert abs(rows(eager.score(prompt, [])) - right).max() < 1e-4


def test_experts_that_a_file_has_stacked_are_not_stacked_while_they_are_read() -> None:
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.core_model_loading import MergeModulelist

    def stacks(model_type: str) -> bool:
        conversions: Any = get_checkpoint_conversion_mapping(model_type) or ()
        operations = [each for conversion in conversions for each in getattr(conversion, "operations", ())]
        return any(isinstance(operation, MergeModulelist) for operation in operations)

    assert stacks("mixtral")
    assert {model_type for model_type in STACKED_IN_FILE if stacks(model_type)} <= STACKED_EITHER_WAY

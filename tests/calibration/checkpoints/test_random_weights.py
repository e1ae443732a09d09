"""Checkpoints with random weights: what is in the folder, that it loads, and that a wrong engine would show on it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calibration.checkpoints.random_weights import SCORES_STD, write_random_checkpoint
from calibration.checkpoints.tokenizer import write_tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.02,
    "bos_token_id": 1,
    "eos_token_id": [2, 5],
    "pad_token_id": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0",
}
GEMMA: dict[str, Any] = {
    **LLAMA,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 64,
}
GPT2: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 600,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 3,
    "n_positions": 256,
    "bos_token_id": 599,
    "eos_token_id": 599,
}
QWEN2: dict[str, Any] = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "eos_token_id": 599}
FAMILIES = {"llama": LLAMA, "gemma3": GEMMA, "gpt2": GPT2, "qwen2": QWEN2}


def written(folder: Path, config: dict[str, Any], seed: int = 0) -> Path:
    source = folder / "config"
    source.mkdir(exist_ok=True)
    (source / "config.json").write_text(json.dumps(config, indent=7))
    write_random_checkpoint(source, folder / f"made-{seed}", seed)
    return folder / f"made-{seed}"


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_config_stays_as_it_was_published(tmp_path: Path) -> None:
    made = written(tmp_path, LLAMA)
    assert sorted(f.name for f in made.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (made / "config.json").read_bytes() == (tmp_path / "config/config.json").read_bytes()
    assert json.loads((made / "generation_config.json").read_text()) == {"bos_token_id": 1, "eos_token_id": [2, 5]}


def test_a_config_without_its_architecture_gets_the_one_of_its_type(tmp_path: Path) -> None:
    config = {key: value for key, value in GPT2.items() if key != "architectures"}
    made = written(tmp_path, config)
    assert json.loads((made / "config.json").read_text()) == {**config, "architectures": ["GPT2LMHeadModel"]}


@pytest.mark.parametrize(("config", "dtype"), [(LLAMA, "torch.bfloat16"), (GPT2, "torch.float32")])
def test_weights_are_of_the_configs_dtype(config: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    assert {str(t.dtype) for t in tensors(written(tmp_path, config)).values()} == {dtype}


def test_a_seed_gives_its_weights_and_no_others(tmp_path: Path) -> None:
    import torch

    (tmp_path / "again").mkdir()
    first, again, other = (
        written(tmp_path, LLAMA, 7),
        written(tmp_path / "again", LLAMA, 7),
        written(tmp_path, LLAMA, 8),
    )
    one, two, three = tensors(first), tensors(again), tensors(other)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], three["model.embed_tokens.weight"])


def test_matrices_are_drawn_by_the_configs_initializer(tmp_path: Path) -> None:
    drawn = tensors(written(tmp_path, LLAMA))
    assert all(0.018 < t.float().std() < 0.022 for t in drawn.values() if t.ndim > 1)


def test_a_router_that_its_initializer_leaves_at_zero_is_drawn(tmp_path: Path) -> None:
    """Afmoe's: else all experts would score alike, and engines would choose different ones."""
    mixture = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_dense_layers": 1}
    drawn = tensors(
        written(tmp_path, {**LLAMA, "architectures": ["AfmoeForCausalLM"], "model_type": "afmoe", **mixture})
    )
    routers = [tensor for name, tensor in drawn.items() if name.endswith("router.gate.weight")]
    assert len(routers) == 2
    assert all(0.1 < router.float().std() < 0.15 for router in routers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_position_or_cache_would_show(family: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from calibration.worker.prompts import prompts

    model = AutoModelForCausalLM.from_pretrained(written(tmp_path, FAMILIES[family]), dtype=torch.float32).eval()
    prompt = torch.tensor(prompts("show", 600, 32, 1))
    with torch.inference_mode():
        logits = model(prompt).logits[0]
        later = model(prompt[:, 1:]).logits[0, -1]
        path = model.generate(prompt, max_new_tokens=12, min_new_tokens=12, do_sample=False)[0, 32:].tolist()
    assert 0.5 * SCORES_STD < logits.std(-1).mean() < 2 * SCORES_STD
    assert len(set(path)) > 1
    assert len(set(logits.argmax(-1).tolist())) > 8
    here, without_first = logits[-1].log_softmax(-1), later.log_softmax(-1)
    # fp32 engines are allowed 1e-4 nats from the reference; a prompt less its first token is 20 times as far.
    assert (here.exp() * (here - without_first)).sum() > 2e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_id_has_a_string_of_its_own_and_text_survives(family: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    config = FAMILIES[family]
    tokenizer = AutoTokenizer.from_pretrained(written(tmp_path, config))
    assert len(tokenizer) == tokenizer.vocab_size == 600
    assert sorted(tokenizer.get_vocab().values()) == list(range(600))
    text = "Hello  world,\n\nnaïve 日本 12345 don't"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    first = config["eos_token_id"][0] if isinstance(config["eos_token_id"], list) else config["eos_token_id"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (config["bos_token_id"], first)


@pytest.mark.parametrize("vocab_size", [96, 257, 70_000])
def test_a_tokenizer_of_any_size(vocab_size: int, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    write_tokenizer(
        tmp_path, vocab_size=vocab_size, special={"bos": 0, "eos": [vocab_size - 1, vocab_size], "pad": None}
    )
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))
    assert tokenizer.id_to_token(vocab_size - 1) == "<|eos|>"


def test_a_quantised_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^random weights need a config without quantization_config; found method awq$"
    ):
        written(tmp_path, {**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4}})
    assert not (tmp_path / "made-0").exists()


def test_a_model_that_only_its_repository_knows_is_refused(tmp_path: Path) -> None:
    unknown = {"architectures": ["NewForCausalLM"], "model_type": "brand_new", "vocab_size": 600}
    with pytest.raises(ValueError, match="brand_new"):
        written(tmp_path, unknown)
    with pytest.raises(ValueError, match=r"need a model class .*found model_type 't5', architectures: none$"):
        written(tmp_path, {"model_type": "t5", "vocab_size": 600})


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    command = [
        sys.executable,
        "-m",
        "calibration.checkpoints.random_weights",
        str(tmp_path),
        str(tmp_path / "made"),
        "3",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[3])
    assert (tmp_path / "made/model.safetensors").stat().st_size > 100_000

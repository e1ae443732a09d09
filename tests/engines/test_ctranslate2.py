"""The CTranslate2 backend on small converted models; and that what its rules refuse is refused for a reason."""

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
from tiny_models import NEW_TOKENS, asked_prompts, rows, unlike

from calibration.backend import Engine
from calibration.backends.ctranslate2 import CTranslate2Backend
from calibration.workload import DEFAULT
from selector.model import ModelSpec

BACKEND = CTranslate2Backend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
Reference = Callable[..., Engine]


@pytest.mark.parametrize("style", ["published", "transformers-5"])
@pytest.mark.parametrize(
    "name", ["llama", "llama-tied", "llama-linear", "llama-bf16", "mistral", "qwen2", "qwen3", "gemma", "gpt2"]
)
def test_float32_is_transformers_in_fp32(name: str, style: str, tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "float32", tiny(name, style))
    assert unlike(engine, reference(name, style)) == []
    engine.close()


@pytest.mark.parametrize("name", ["gemma3", "mistral-window"])
def test_a_window_is_honoured_while_the_prompt_is_shorter(name: str, tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "float32", tiny(name))
    asked = asked_prompts(8)
    assert engine.generate(asked, 12).tokens == reference(name).generate(asked, 12).tokens


@pytest.mark.parametrize("name", ["llama3", "gemma-theta", "gemma2", "qwen2-window"])
def test_what_the_facts_leave_out_computes_something_else(name: str, tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "float32", tiny(name))
    assert "scores" in unlike(engine, reference(name))


def test_a_prompt_longer_than_the_window_goes_wrong(tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "float32", tiny("gemma3"))
    asked = asked_prompts(40)
    assert engine.generate(asked, NEW_TOKENS).tokens != reference("gemma3").generate(asked, NEW_TOKENS).tokens


@pytest.mark.parametrize("name", ["llama-wide-heads", "phi3", "qwen3-moe"])
def test_what_the_facts_leave_out_does_not_convert_or_run(name: str, tiny: Folder) -> None:
    with pytest.raises(Exception, match=r"axis 2|type|No conversion is registered"):
        tiny_models.load(BACKEND, "float32", tiny(name)).generate(asked_prompts(), 1)


def test_int8_is_near_but_not_the_same(tiny: Folder, reference: Reference) -> None:
    engine = tiny_models.load(BACKEND, "int8", tiny("llama"))
    assert [finding for finding in unlike(engine, reference("llama")) if finding != "greedy tokens"] == ["scores"]
    assert "scores" not in unlike(engine, reference("llama"), within=1.0)


def test_full_precision_keeps_the_checkpoints_dtype_on_disk(tiny: Folder) -> None:
    for name in ("llama", "llama-bf16"):
        tiny_models.load(BACKEND, "float32", tiny(name)).close()
    sizes = [
        (tiny(n).parent / f"{tiny(n).name}-ctranslate2-float32/model.bin").stat().st_size
        for n in ("llama", "llama-bf16")
    ]
    assert 1.8 < sizes[0] / sizes[1] < 2.1


def test_tokens_arrive_one_by_one(tiny: Folder) -> None:
    made = tiny_models.load(BACKEND, "float32", tiny("llama")).generate(asked_prompts(), NEW_TOKENS)
    assert [len(set(row)) for row in made.arrivals] == [NEW_TOKENS] * 3
    # One batch: every sequence has its first token before any has its second.
    assert max(row[0] for row in made.arrivals) < min(row[1] for row in made.arrivals)


def test_a_type_that_the_device_does_not_compute_is_refused(tiny: Folder) -> None:
    tiny_models.load(BACKEND, "float32", tiny("llama")).close()
    asked = tiny_models.job(
        tiny("llama"), BACKEND, "bfloat16", tiny("llama").parent / "llama-published-ctranslate2-float32"
    )
    with pytest.raises(ValueError, match=r"^needs compute type bfloat16; this cpu has .*float32"):
        BACKEND.load(asked)


def test_two_tokens_of_one_name_are_refused(tiny: Folder, tmp_path: Path) -> None:
    tiny_models.load(BACKEND, "float32", tiny("llama")).close()
    shutil.copytree(tiny("llama").parent / "llama-published-ctranslate2-float32", tmp_path / "copy")
    words = json.loads((tmp_path / "copy/vocabulary.json").read_text())
    (tmp_path / "copy/vocabulary.json").write_text(json.dumps([words[1], *words[1:]]))
    asked = replace(tiny_models.job(tiny("llama"), BACKEND, "float32"), artifact_dir=tmp_path / "copy")
    with pytest.raises(ValueError, match=r"^needs a name of its own for each token; found 320 tokens, 319 names$"):
        BACKEND.load(asked)


def test_scores_are_float32_and_of_the_whole_vocabulary(tiny: Folder) -> None:
    scores = rows(tiny_models.load(BACKEND, "float32", tiny("gpt2")).score(asked_prompts()[0], (5, 6)))
    assert (scores.shape, str(scores.dtype)) == ((3, tiny_models.VOCAB), "float32")


@pytest.mark.parametrize(
    ("name", "variant", "reasons"),
    [
        ("llama", "float32", []),
        ("mistral", "float32", []),
        ("gemma", "float32", []),
        ("llama", "float16", ["needs a float16 model; found float32"]),
        ("llama-bf16", "bfloat16", []),
        ("llama-wide-heads", "float32", ["needs head_dim 16 (hidden_size / heads) in LlamaForCausalLM; found 32"]),
        (
            "gemma-theta",
            "float32",
            ["needs rope_theta 10000, which the conversion of GemmaForCausalLM takes; found 2345"],
        ),
        (
            "gemma2",
            "int8",
            [
                "needs no final_logit_softcapping, which the conversion leaves out; found 5",
                "needs no attn_logit_softcapping, which the conversion leaves out; found 2",
            ],
        ),
    ],
)
def test_what_fits(name: str, variant: str, reasons: list[str], tiny: Folder) -> None:
    assert BACKEND.fits(ModelSpec.read(str(tiny(name))), BACKEND.variant(variant)) == reasons


def test_its_command_converts_or_answers(tiny: Folder) -> None:
    assert BACKEND.command(BACKEND.variant("int8"), "gpt2", None) == (
        "ct2-transformers-converter --model gpt2 --output_dir ctranslate2-model --quantization int8"
    )
    words = shlex.split(BACKEND.command(BACKEND.variant("float32"), "gpt2", "/a b"))
    assert words[:2] == ["python", "-c"] and "Generator('/a b', 'auto', compute_type='float32')" in words[2]
    compile(words[2], "command", "exec")
    assert BACKEND.engine_config(BACKEND.variant("int8"), "gpt2", DEFAULT) == {"compute_type": "int8"}

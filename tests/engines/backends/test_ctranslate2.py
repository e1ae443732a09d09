"""The CTranslate2 backend on small converted models; and that what its rules refuse is refused for a reason."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import pytest

from calibration.backend import Engine
from calibration.backends.ctranslate2 import CTranslate2Backend
from calibration.measurement import Candidate
from selector.host.spec import Device, HostSpec
from selector.model.spec import ModelSpec
from selector.planning.plan import launch_spec_of
from tests.engines import tiny_models
from tests.engines.printed_commands import deployed
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import NEW_TOKENS, asked_prompts, rows, unlike

BACKEND = CTranslate2Backend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

HERE = set(ctranslate2.get_supported_compute_types("cpu"))

Folder = Callable[..., Path]
Reference = Callable[..., Engine]


def gpu(*capability: int) -> Device:
    return Device(kind="cuda", name="a GPU", memory_bytes=0, free_bytes=0, capability=(capability[0], capability[1]))


def cpu(name: str) -> Device:
    return Device(kind="cpu", name=name, memory_bytes=0, free_bytes=0)


def converted(variant: str, folder: Path) -> Path:
    """Where tiny_models.load puts what a variant is converted to."""
    tiny_models.load(BACKEND, variant, folder).close()
    return folder.parent / f"{folder.name}-{BACKEND.name}-{variant}"


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
    overflows = launch_spec_of(Candidate(backend="ctranslate2", variant="int8"), HostSpec.detect()).overflows
    assert "scores" not in unlike(engine, reference("llama"), within=3.0 if overflows else 1.0)


@pytest.mark.skipif("int16" not in HERE, reason="MKL, which multiplies int16, is used on Intel's CPUs alone")
def test_int16_is_nearer_than_int8_from_the_conversion_of_float32(tiny: Folder, reference: Reference) -> None:
    artifact = converted("float32", tiny("llama"))
    engine = BACKEND.load(tiny_models.job(tiny("llama"), BACKEND, "int16", artifact))
    assert engine.generator.compute_type == "int16"
    assert [finding for finding in unlike(engine, reference("llama")) if finding != "greedy tokens"] == ["scores"]
    assert "scores" not in unlike(engine, reference("llama"), within=0.1)
    assert "scores" in unlike(tiny_models.load(BACKEND, "int8", tiny("llama")), reference("llama"), within=0.1)


def test_what_is_not_quantised_is_float32_on_a_cpu_whatever_the_model(tiny: Folder) -> None:
    for name in ("llama", "llama-bf16"):
        engine: Any = tiny_models.load(BACKEND, "int8", tiny(name))
        assert engine.generator.compute_type == "int8_float32"


def test_variants_that_share_a_conversion_write_the_same(tiny: Folder, tmp_path: Path) -> None:
    shared: dict[str, set[bytes]] = {}
    for variant in BACKEND.variants:
        made = tmp_path / variant.name
        made.mkdir()
        BACKEND.prepare(tiny_models.job(tiny("llama-bf16"), BACKEND, variant.name), made, print)
        shared.setdefault(variant.prepared_as, set()).add((made / "model.bin").read_bytes())
    assert {name: len(written) for name, written in shared.items()} == {"float": 1, "int8": 1}


def test_every_type_that_this_cpu_computes_has_a_variant() -> None:
    mine = {v.options["compute_type"] for v in BACKEND.variants if not v.devices or "cpu" in v.devices}
    # int8 of any model is int8_float32 where the device has no 16-bit floats.
    assert HERE - {"int8_float32"} <= mine


def test_full_precision_keeps_the_checkpoints_dtype_on_disk(tiny: Folder) -> None:
    sizes = [(converted("float32", tiny(n)) / "model.bin").stat().st_size for n in ("llama", "llama-bf16")]
    assert 1.8 < sizes[0] / sizes[1] < 2.1


def test_tokens_arrive_one_by_one(tiny: Folder) -> None:
    made = tiny_models.load(BACKEND, "float32", tiny("llama")).generate(asked_prompts(), NEW_TOKENS)
    assert [len(set(row)) for row in made.arrivals] == [NEW_TOKENS] * 3
    # One batch: every sequence has its first token before any has its second.
    assert max(row[0] for row in made.arrivals) < min(row[1] for row in made.arrivals)


def test_a_type_that_the_device_does_not_compute_is_refused(tiny: Folder) -> None:
    asked = tiny_models.job(tiny("llama"), BACKEND, "bfloat16", converted("float32", tiny("llama")))
    with pytest.raises(ValueError, match=r"^needs compute type bfloat16; this cpu has .*float32"):
        BACKEND.load(asked)


def test_two_tokens_of_one_name_are_refused(tiny: Folder, tmp_path: Path) -> None:
    shutil.copytree(converted("float32", tiny("llama")), tmp_path / "copy")
    words = json.loads((tmp_path / "copy/vocabulary.json").read_text())
    (tmp_path / "copy/vocabulary.json").write_text(json.dumps([words[1], *words[1:]]))
    asked = replace(tiny_models.job(tiny("llama"), BACKEND, "float32"), artifact_dir=tmp_path / "copy")
    with pytest.raises(ValueError, match=r"^needs a name of its own for each token; found 320 tokens, 319 names$"):
        BACKEND.load(asked)


def test_scores_are_float32_and_of_the_whole_vocabulary(tiny: Folder) -> None:
    scores = rows(tiny_models.load(BACKEND, "float32", tiny("gpt2")).score(asked_prompts()[0], (5, 6)))
    assert (scores.shape, str(scores.dtype)) == ((3, VOCAB), "float32")


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
                "needs rope_theta 10000, which the conversion of Gemma2ForCausalLM takes; found 2345",
            ],
        ),
    ],
)
def test_what_fits(name: str, variant: str, reasons: list[str], tiny: Folder) -> None:
    assert BACKEND.fits(ModelSpec.read(str(tiny(name))), BACKEND.variant(variant)) == reasons


@pytest.mark.parametrize(
    ("name", "variant", "device", "reasons"),
    [
        (
            "llama-bf16",
            "int8_bfloat16",
            gpu(8, 0),
            ["needs a model that is not bfloat16, since int8 does the same with it; found bfloat16"],
        ),
        ("llama-bf16", "int8_float16", gpu(8, 0), []),
        ("llama-bf16", "int8_float16", gpu(6, 1), ["needs compute capability 7.0 or newer for float16; found 6.1"]),
        ("llama", "int8_bfloat16", gpu(7, 5), ["needs compute capability 8.0 or newer for bfloat16; found 7.5"]),
        ("llama", "int16", cpu("Intel Xeon, 2 cores"), []),
        (
            "llama",
            "int16",
            cpu("AMD EPYC 7763, 2 cores"),
            ["needs an Intel CPU for int16, which MKL alone multiplies; found AMD EPYC 7763, 2 cores"],
        ),
        ("llama", "int8", cpu("AMD EPYC 7763, 2 cores"), []),
    ],
)
def test_what_a_device_fits(name: str, variant: str, device: Device, reasons: list[str], tiny: Folder) -> None:
    assert BACKEND.fits(ModelSpec.read(str(tiny(name))), BACKEND.variant(variant), device) == reasons


def test_its_configuration_and_that_it_has_no_command() -> None:
    assert BACKEND.engine_config(BACKEND.variant("int8"), deployed("gpt2")) == {"compute_type": "int8"}
    assert BACKEND.command(BACKEND.variant("int8"), deployed("gpt2")) is None

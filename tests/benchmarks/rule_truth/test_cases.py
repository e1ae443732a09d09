"""The cases of the rule truth: small models of real architectures, their styles, their quant formats."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.rule_truth.cases.architectures import NoSuchField, config_of
from benchmarks.rule_truth.cases.cases import all_cases
from benchmarks.rule_truth.cases.checkpoints import check_size
from benchmarks.rule_truth.cases.quant.table import FORMATS
from benchmarks.rule_truth.cases.small import NO_CASE
from benchmarks.rule_truth.cases.styles import newest, published
from benchmarks.rule_truth.cases.variants import VARIANTS
from benchmarks.rule_truth.rule_truth import main

# transformers warns of configs that are unusual on purpose.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


def contents(model_type: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """In the newest style, and as published."""
    content = newest(config_of(model_type, **changes), "AForCausalLM", "float32")
    return content, published(content)


def test_a_config_is_shrunk_by_its_own_fields() -> None:
    gpt2, llama, deepseek = (config_of(kind).to_dict() for kind in ("gpt2", "llama", "deepseek_v3"))
    assert (gpt2["n_embd"], gpt2["n_layer"], gpt2["vocab_size"]) == (64, 4, 320)
    assert (llama["hidden_size"], llama["num_key_value_heads"], llama["head_dim"]) == (64, 2, 16)
    assert (deepseek["qk_rope_head_dim"], deepseek["num_key_value_heads"], deepseek["n_routed_experts"]) == (8, 4, 4)


def test_every_kind_is_a_case_or_has_a_reason_why_it_is_none() -> None:
    problems = {case.name: case.problem for case in all_cases() if case.problem and case.kind == "default"}
    assert problems == NO_CASE


@pytest.mark.parametrize("name", ["dots3_note", "fuyu", "gemma3", "llama4", "qwen3_5", "zamba2", "reformer", "blt"])
def test_a_kind_of_several_parts_is_small_in_all_of_them(name: str, tmp_path: Path) -> None:
    [case] = [case for case in all_cases() if case.name == name]
    (tmp_path / "config.json").write_text(json.dumps(dict(case.content)))
    check_size(tmp_path)


def test_what_a_class_has_not_is_not_changed() -> None:
    assert config_of("llama", tie_word_embeddings=True, alibi=True).tie_word_embeddings is True
    with pytest.raises(NoSuchField, match=r"^GPT2Config has no head_dim$"):
        config_of("gpt2", head_dim=24)


def test_published_configs_have_their_rotation_at_the_top() -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 8.0, "original_max_position_embeddings": 64}
    content, written = contents("llama", rope_parameters=yarn)
    assert content["rope_parameters"]["rope_theta"] == 5000.0
    assert "rope_parameters" not in written
    assert (written["rope_theta"], written["torch_dtype"]) == (5000.0, "float32")
    assert (written["rope_scaling"]["rope_type"], written["rope_scaling"]["factor"]) == ("yarn", 8.0)
    _, plain = contents("llama")
    assert plain["rope_scaling"] is None


def test_two_rotations_are_published_as_gemma_3_has_them() -> None:
    _, written = contents("gemma3_text")
    assert (written["rope_theta"], written["rope_local_base_freq"]) == (1000000.0, 10000.0)


def test_cases_begin_with_every_default_and_no_two_are_equal() -> None:
    cases = all_cases()
    kinds = [case.kind for case in cases]
    assert kinds[: kinds.count("default")] == ["default"] * kinds.count("default")
    written = [case for case in cases if not case.problem]
    assert sum(case.kind == "default" for case in written) >= 100
    assert len({case.digest for case in written}) == len(written)
    assert {case.kind for case in written} >= {v.kind for v in VARIANTS}
    assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize("name", FORMATS)
def test_a_quant_format_means_nearly_the_weights_that_were_rounded(name: str) -> None:
    shape = (2, 256, 512) if name == "mxfp4" else (256, 512)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    parts, meant = FORMATS[name].quantise(weight, FORMATS[name].config)
    off = float((meant - weight).norm() / weight.norm())
    # Of normal weights 4 bits in groups of 128 are a tenth off, float8 a fortieth, 8 bits a hundredth; rows are longer
    # groups, and four numbers are few.
    most = next((most for bits, most in {"2bit": 0.7, "rows": 0.16, "4": 0.14}.items() if bits in name), 0.04)
    assert 0.001 < off < most
    assert all(part.is_contiguous() or part.numel() for part in parts.values())
    assert all(suffix.startswith((".", "_")) for suffix in parts)


@pytest.mark.parametrize("name", ["fp8-blocks", "compressed-fp8-blocks"])
def test_float8_means_its_numbers_times_the_scales_of_their_blocks_as_these_are_stored(name: str) -> None:
    weight = torch.randn((256, 320), generator=torch.Generator().manual_seed(1))
    parts, meant = FORMATS[name].quantise(weight, FORMATS[name].config)
    [scales] = [part.float() for suffix, part in parts.items() if "scale" in suffix]
    spread = scales.repeat_interleave(128, dim=0).repeat_interleave(128, dim=1)[:, :320]
    assert torch.equal(meant, parts[".weight"].float() * spread)


def test_what_a_quant_format_leaves_out_stays_plain() -> None:
    names = ["model.layers.0.self_attn.kv_b_proj.weight", "model.layers.0.mlp.experts.3.up_proj.weight"]
    for method in ("gptq-4bit", "awq-4bit", "compressed-4bit"):
        assert [FORMATS[method].codes(name) for name in names] == [True, True]
        assert [FORMATS[f"{method}-experts"].codes(name) for name in names] == [False, True]
    assert FORMATS["awq-4bit"].codes("model.layers.0.linear_attn.in_proj_qkvz.weight")
    assert not FORMATS["awq-4bit-softmax"].codes("model.layers.0.linear_attn.in_proj_qkvz.weight")
    assert not any(form.codes("lm_head.weight") for form in FORMATS.values())
    assert FORMATS["mxfp4"].codes("model.layers.0.mlp.experts.down_proj")


def test_four_bits_of_bitsandbytes_and_of_gpt_oss_lie_in_bytes_as_their_readers_take_them() -> None:
    row = torch.tensor([[1.0, -1.0, 0.0, 1.0] * 16])
    coded, meant = FORMATS["bnb-nf4"].quantise(row, FORMATS["bnb-nf4"].config)
    assert coded[".weight"][:2, 0].tolist() == [0xF0, 0x7F]
    assert torch.equal(meant, row)
    experts = torch.tensor([6.0, -6.0, 0.0, 3.0] * 8).reshape(1, 32, 1)
    coded, meant = FORMATS["mxfp4"].quantise(experts, {})
    assert coded["_blocks"].shape == (1, 1, 1, 16)
    assert coded["_blocks"][0, 0, 0, :2].tolist() == [0xF7, 0x50]
    assert coded["_scales"].tolist() == [[[127]]]
    assert torch.equal(meant, experts)


def test_pairs_are_measured_kept_and_judged_without_loading_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "rules"), "--build", str(tmp_path / "build")]
    asked = ["--models", "gpt2", "mamba", "--kinds", "default", "--backend", "transformers:sdpa", "ctranslate2"]
    assert main(["measure", *asked, *places]) == 0
    assert capsys.readouterr().out.count("\n") == 4
    lines = [json.loads(line) for line in (tmp_path / "rules" / "truth.jsonl").read_text().splitlines()]
    assert {(line["case"], line["candidate"]): line["verdict"] for line in lines} == {
        ("gpt2", "transformers:sdpa"): "right",
        ("mamba", "transformers:sdpa"): "refused",
        ("gpt2", "ctranslate2:float32"): "right",
        ("mamba", "ctranslate2:float32"): "refused",
    }
    assert main(["measure", *asked, *places]) == 0
    assert capsys.readouterr().out == "", "what was tried is not tried again"
    assert main(["report", "--write", *places]) == 0
    shown = capsys.readouterr().out
    assert "| ctranslate2 | 2 | 100% | 1 | 1 | 0 | 0 | 0 |" in shown
    assert (tmp_path / "rules" / "rules.md").read_text() == shown
    assert json.loads((tmp_path / "rules" / "rules.json").read_text())["disagreements"] == []

"""Whether there is a reference at all."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.events import ReferenceFailed
from selector.model.quant.format import QuantFormat
from selector.planning.plan import plan
from selector.planning.subject import reference_for, reference_variant
from tests.calibration.launch.test_reference import session
from tests.selector.conftest import spec


def test_there_is_none_of_a_file_that_transformers_computes_otherwise(tmp_path: Path) -> None:
    planned = plan("shape:gpt2")
    gguf = QuantFormat(method="gguf")
    of_file: dict[str, Any] = {"architecture": "Gemma2ForCausalLM", "quant": gguf, "head_dim": 128}
    within = session(tmp_path)
    assert reference_for(replace(planned, spec=replace(planned.spec, **of_file)))(within) is None
    [failed] = within.reporter.of(ReferenceFailed)  # type: ignore[attr-defined]  # a Recorder's
    assert failed.message == (
        "transformers needs heads of 256, by which it scales attention in every .gguf file; found 128"
    )


@pytest.mark.parametrize(
    ("model_type", "config", "variant"),
    [("falcon", {"alibi": True}, "sdpa"), ("falcon", {"alibi": False}, "eager"), ("bert", {}, "eager")],
)
def test_its_attention_is_eager_unless_that_alone_is_wrong(
    model_type: str, config: dict[str, Any], variant: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert reference_variant(spec(model_type=model_type, folder=tmp_path)).name == variant

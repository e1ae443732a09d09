"""What the transformers backend knows of decoders."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.transformers import TransformersBackend
from tests.selector.conftest import spec

BACKEND = TransformersBackend()


@pytest.mark.parametrize(
    ("model_type", "config", "reasons"),
    [
        ("bert", {"is_decoder": True}, []),
        ("bert", {}, ["needs is_decoder true, without which BertLMHeadModel attends to later tokens; found false"]),
        ("llama", {}, []),
        ("bart", {}, []),  # its decoder is built alone, and is causal whatever the config says
    ],
)
def test_an_encoder_runs_where_its_config_makes_it_a_decoder(
    model_type: str, config: dict[str, Any], reasons: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = spec(architecture="BertLMHeadModel", model_type=model_type, folder=tmp_path)
    assert BACKEND.fits(model, BACKEND.variant("eager")) == reasons

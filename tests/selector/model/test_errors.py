"""What is no model is refused with the value and the mend."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from calibration.errors import ModelError
from selector.model.spec import ModelSpec
from tests.selector.model.model_folders import GOLDEN, folder

MEND = "give a folder with config.json, a hub id (owner/name), a .gguf file, or shape:NAME"


@pytest.mark.parametrize(
    "model",
    ["./nowhere", "/nowhere/at/all", "a/b/c", "~nobody/x y", "~no-such-user/x", "\ud800", "x" * 5000, "owner/na--me"],
)
def test_no_such_model(model: str) -> None:
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(model)
    assert refused.value.mend == MEND


@pytest.mark.parametrize("model", ["", "a\0b"])
def test_no_model(model: str) -> None:
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(model)
    assert str(refused.value) == f"{model!r} is not a model\n{MEND}"


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(str(tmp_path))
    assert str(refused.value) == f"{tmp_path} has no config.json\n{MEND}"


def test_config_that_is_a_folder_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(str(tmp_path))
    assert refused.value.message == f"{tmp_path}/config.json is not a file"
    (tmp_path / "config.json").rmdir()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ModelError, match="is not a file"):
        ModelSpec.read(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom permissions bind; root reads everything")
def test_config_that_may_not_be_read(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (tmp_path / "config.json").chmod(0)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        ModelSpec.read(path)


def test_config_that_is_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    with pytest.raises(ModelError, match="cannot be read: No such file or directory"):
        ModelSpec.read(str(tmp_path))


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(str(tmp_path / "config.json"))
    assert str(refused.value) == f"{tmp_path}/config.json is a file\n{MEND}"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"<html>rate limited</html>", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "needs a JSON object; found a list"),
        (b"3", "needs a JSON object; found a number"),
        (b'"x"', "needs a JSON object; found a text"),
        (b"null", "needs a JSON object; found null"),
        (b"true", "needs a JSON object; found a truth value"),
        (b"\xff\xfe{}", "is not UTF-8: invalid start byte at byte 0"),
        (b'{"a":' + b"[" * 200_000, "is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON: Exceeds the limit"),
    ],
)
def test_config_that_is_no_config(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(str(tmp_path))
    assert refused.value.message.startswith(f"{tmp_path}/config.json {message}")
    assert refused.value.mend == "fetch config.json again from where the model was published"


def test_config_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "config.json").read_bytes())
    assert ModelSpec.read(path).layers == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": -896}, "hidden_size needs a whole number from 1 to 16777216; found -896"),
        ({"hidden_size": 0}, "hidden_size needs a whole number from 1 to 16777216; found 0"),
        ({"hidden_size": "896"}, "hidden_size needs a whole number from 1 to 16777216; found '896'"),
        ({"hidden_size": 896.0}, "hidden_size needs a whole number from 1 to 16777216; found 896.0"),
        ({"hidden_size": True}, "hidden_size needs a whole number from 1 to 16777216; found True"),
        ({"hidden_size": {"a": 1}}, "hidden_size needs a whole number from 1 to 16777216; found {'a': 1}"),
        ({"num_hidden_layers": 10**30}, f"num_hidden_layers needs a whole number from 1 to 10000; found 1{'0' * 30}"),
        ({"num_hidden_layers": None}, "has no num_hidden_layers (nor n_layer, n_layers, num_layers)"),
        ({"hidden_size": 900}, "hidden_size needs a multiple of the 14 heads, or a head_dim beside it; found 900"),
        ({"num_key_value_heads": 28}, "num_key_value_heads needs at most the 14 attention heads; found 28"),
        ({"intermediate_size": None}, "has no intermediate_size (nor ffn_hidden_size, n_inner, ffn_dim, inner_size)"),
        ({"rope_theta": float("nan")}, "rope_theta needs a number above 0; found nan"),
        ({"rope_theta": -1}, "rope_theta needs a number above 0; found -1"),
        ({"rope_scaling": "yarn"}, "rope_scaling needs an object; found 'yarn'"),
        ({"torch_dtype": "int3"}, "torch_dtype needs one of bfloat16, float16, float32, float64, "),
        ({"torch_dtype": 16}, "torch_dtype needs a short text; found 16"),
        ({"architectures": "Qwen2ForCausalLM"}, "architectures needs a list; found 'Qwen2ForCausalLM'"),
        ({"architectures": []}, "has no architectures (nor auto_map: AutoModelForCausalLM)"),
        ({"architectures": ["rm -rf /"]}, "architectures needs the name of a class; found 'rm -rf /'"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings needs true or false; found 'yes'"),
        ({"layer_types": ["full_attention"]}, "layer_types lists 1 layers; the model has 24"),
        ({"text_config": 5}, "text_config needs an object; found 5"),
        ({"num_experts": 8}, "has no num_experts_per_tok (nor num_experts_per_token, experts_per_token, "),
        (
            {"num_experts": 8, "num_experts_per_tok": 9},
            "num_experts_per_tok needs at most the 8 experts there are; found 9",
        ),
        ({"auto_map": ["x"]}, "auto_map needs an object; found ['x']"),
    ],
)
def test_absurd_fields(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    base = json.loads((GOLDEN / "gptq-8bit-g128-qwen2" / "config.json").read_text())
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(folder(tmp_path, base | changes))
    assert refused.value.message.removeprefix(f"{tmp_path}/config.json").lstrip(": ").startswith(message)
    assert refused.value.mend == f"compare {tmp_path}/config.json with the published one, or fetch it again"


def test_top_level_shapes_are_never_guessed(tmp_path: Path) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    with pytest.raises(ModelError, match="has no hidden_size"):
        ModelSpec.read(folder(tmp_path, config))

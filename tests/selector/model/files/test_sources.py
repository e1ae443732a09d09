"""Where models come from: the shape library and .gguf files."""

import struct
from pathlib import Path

import pytest

from calibration.errors import ModelError
from selector.model.files.gguf import has_chat_template
from selector.model.quant.format import QuantFormat
from selector.model.spec import ModelSpec, shape_names
from tests.selector.model.model_folders import folder


def test_shape_library() -> None:
    assert shape_names() == (
        *("gemma-3-270m", "gpt2", "granite-3.0-1b-a400m", "llama-3.1-8b", "llama-3.2-1b", "qwen2.5-0.5b", "qwen2.5-7b"),
        *("qwen3-0.6b", "qwen3-30b-a3b", "qwen3-8b", "smollm2-135m", "smollm2-360m"),
    )
    spec = ModelSpec.read("shape:smollm2-135m")
    assert (spec.name, spec.folder.name, spec.has_weights) == ("shape:smollm2-135m", "smollm2-135m", False)
    assert (spec.folder / "config.json").is_file()


def test_a_path_is_a_place_on_the_disk(tmp_path: Path) -> None:
    assert ModelSpec.read(Path(folder(tmp_path))) == ModelSpec.read(folder(tmp_path))
    for name in ("shape:smollm2-135m", "owner/name"):
        with pytest.raises(ModelError) as refused:
            ModelSpec.read(Path(name))
        assert refused.value.message == f"there is no folder {name!r}"


@pytest.mark.parametrize("name", ["none.gguf", "models/none.gguf", "./none.gguf"])
def test_a_gguf_file_that_is_not_there_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(name)
    assert refused.value.message == f"there is no file {name!r}"


def test_unknown_shape() -> None:
    with pytest.raises(ModelError) as refused:
        ModelSpec.read("shape:smolm2-135m")
    assert refused.value.message == "there is no shape 'smolm2-135m'"
    assert refused.value.mend.startswith("did you mean shape:smollm2-135m? the shapes are gemma-3-270m, gpt2, ")


def gguf(**values: object) -> bytes:
    """A .gguf file's head: texts, whole numbers (as u32), floats, and lists of texts."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    pairs = b""
    for key, value in values.items():
        pairs += text(key.replace("__", "."))
        match value:
            case str():
                pairs += struct.pack("<I", 8) + text(value)
            case int():
                pairs += struct.pack("<II", 4, value)
            case float():
                pairs += struct.pack("<If", 6, value)
            case list():
                pairs += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + pairs


TINY_GGUF = {
    "general__architecture": "qwen2",
    "general__file_type": 15,
    "general__tags": ["text-generation"],
    "qwen2__block_count": 24,
    "qwen2__context_length": 32768,
    "qwen2__embedding_length": 896,
    "qwen2__feed_forward_length": 4864,
    "qwen2__attention__head_count": 14,
    "qwen2__attention__head_count_kv": 2,
    "qwen2__rope__freq_base": 1000000.0,
    "tokenizer__ggml__model": "gpt2",
    "tokenizer__ggml__tokens": ["a", "b", "c"],
    "tokenizer__ggml__merges": ["a b"],
}


def test_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "qwen.gguf"
    path.write_bytes(gguf(**TINY_GGUF) + b"w" * 5000)
    spec = ModelSpec.read(str(path))
    assert (spec.architecture, spec.layers, spec.heads, spec.kv_heads, spec.head_dim) == (
        "Qwen2ForCausalLM",
        24,
        14,
        2,
        64,
    )
    assert (spec.vocab_size, spec.rope_theta, spec.sliding_window) == (3, 1000000.0, None)
    assert (spec.has_weights, spec.weight_bytes, spec.folder) == (True, path.stat().st_size, tmp_path)
    assert spec.quant == QuantFormat(method="gguf", bits=4, format="q4_k_m", kind="int")
    assert spec.quant.label == "gguf-q4_k_m"


@pytest.mark.parametrize(
    ("names", "tied"),
    [
        (("token_embd.weight", "output_norm.weight"), True),
        (("token_embd.weight", "output_norm.weight", "output.weight"), False),
        (("output.weight", "token_embd.weight"), False),
        ((), False),
    ],
)
def test_gguf_without_an_output_matrix_shares_the_embedding(tmp_path: Path, names: tuple[str, ...], tied: bool) -> None:
    path = tmp_path / "qwen.gguf"
    tensors = b"".join(struct.pack("<Q", len(name)) + name.encode() + bytes(28) for name in names)
    path.write_bytes(gguf(**TINY_GGUF) + tensors)
    assert ModelSpec.read(str(path)).tie_word_embeddings is tied


def test_a_chat_template_of_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "qwen.gguf"
    path.write_bytes(gguf(**TINY_GGUF, note="tokenizer.chat_template") + b"w" * 5000)
    assert not has_chat_template(path)
    path.write_bytes(gguf(**TINY_GGUF, tokenizer__chat_template="{{ messages }}") + b"w" * 5000)
    assert has_chat_template(path)


def test_gguf_in_parts(tmp_path: Path) -> None:
    first = tmp_path / "qwen-00001-of-00002.gguf"
    first.write_bytes(gguf(**TINY_GGUF))
    with pytest.raises(ModelError, match=r"is one of 2 parts: .*qwen-00002-of-00002\.gguf"):
        ModelSpec.read(str(first))
    (tmp_path / "qwen-00002-of-00002.gguf").write_bytes(b"w" * 100)
    assert ModelSpec.read(str(first)).weight_bytes == first.stat().st_size + 100


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it ends inside its metadata"),
        (b"PK\3\4" + b"\0" * 100, "it does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "its version is 9; 2 and 3 are known"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), f"it has {1 << 60} metadata keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 50), f"it has a text of {1 << 50} bytes"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77),
            "it has a value of the unknown kind 77",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 1 << 40),
            f"it has an array of {1 << 40} values",
        ),
        (gguf(**TINY_GGUF)[:200], "it ends inside its metadata"),
    ],
    ids=range(8),
)
def test_broken_gguf(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(raw)
    with pytest.raises(ModelError) as refused:
        ModelSpec.read(str(path))
    assert refused.value.message == f"{path} is not a gguf file that can be read: {why}"


def test_gguf_metadata_counts_for_the_hash_of_the_config(tmp_path: Path) -> None:
    def hashed(**more: object) -> str:
        path = tmp_path / "qwen.gguf"
        path.write_bytes(gguf(**{**more, **TINY_GGUF, **more}) + b"w" * 5000)
        return ModelSpec.read(str(path)).config_hash

    assert hashed(general__name="another") == hashed()
    assert hashed(qwen2__logit_scale=0.5) != hashed()

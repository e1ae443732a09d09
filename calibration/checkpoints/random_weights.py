"""Writes a checkpoint with random weights and a tokenizer from a config.json: speed does not depend on the weights.

`python -m calibration.checkpoints.random_weights CONFIG_DIR DESTINATION [SEED]`
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from calibration.checkpoints.json_file import write_json
from calibration.checkpoints.tokenizer import pattern_of, write_tokenizer

CHECKPOINT_VERSION = "5"
"""Part of an artifact's key. Raise it when the same config gives other weights or another tokenizer than before."""

SEED = 0
"""Of the weights that calibrations use."""

SHARD_SIZE = "2GB"
"""A shard is held twice while it is written."""

SCORES_STD = 2.0
"""Standard deviation of the scores over the vocabulary: a trained model's, and what the tolerances are for."""

BIAS = 0.1
"""Deviation of a bias, as a share of the deviation of the product that it is added to. Biases are the same at all
positions: five times as large, those of values and of feed-forward layers would drown what differs between them."""

PROBE_TOKENS = 16


def checkpoint_key(config_dir: Path, model: str) -> dict[str, str]:
    """Key of the artifact with random weights for a config.json; `model` is the name that the user gave."""
    return {
        "kind": "checkpoint",
        "model": model,
        "config": _hash(config_dir),
        "seed": str(SEED),
        "version": CHECKPOINT_VERSION,
    }


def random_weights_identity(config_dir: Path) -> str:
    """An identity that no other weights have."""
    return f"random-{_hash(config_dir)}-{SEED}-{CHECKPOINT_VERSION}"


def _hash(config_dir: Path) -> str:
    return hashlib.sha256((config_dir / "config.json").read_bytes()).hexdigest()[:16]


def write_random_checkpoint(config_dir: Path, destination: Path, seed: int = 0) -> None:
    """Write config.json, weights (safetensors, in the config's dtype) and a tokenizer into the folder `destination`.

    The weights are drawn by the config's own initializer; the gain of the last norm is then set so that an engine's
    errors show (`_spread_scores`). config.json is copied word for word where it names its architecture: transformers
    would rewrite it in its own style, which several engines do not read. No code of a model is run.

    Args:
        config_dir: folder with a config.json.
        seed: of the weights; equal seeds give equal weights with one version of torch.

    Raises:
        ValueError: transformers does not know the model, or the config is of a quantised checkpoint.
    """
    import torch
    from transformers import AutoConfig

    written = json.loads((config_dir / "config.json").read_text(encoding="utf-8"))
    if written.get("quantization_config"):
        method = written["quantization_config"].get("quant_method", "unknown")
        raise ValueError(f"random weights need a config without quantization_config; found method {method}")
    config = AutoConfig.from_pretrained(config_dir, trust_remote_code=False)
    model_class = _model_class(config, written.get("architectures") or [])
    torch.manual_seed(seed)
    model = model_class._from_config(config, dtype=config.dtype or torch.float32)  # noqa: SLF001  from_config of one class
    _draw_zero_matrices(model, seed)
    _draw_biases(model, seed)
    _spread_scores(model, config.get_text_config().vocab_size)
    destination.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(destination, max_shard_size=SHARD_SIZE)
    if not written.get("architectures"):
        write_json(destination / "config.json", {**written, "architectures": [model_class.__name__]})
    else:
        shutil.copyfile(config_dir / "config.json", destination / "config.json")

    text = config.get_text_config()
    special = {role: getattr(text, f"{role}_token_id", None) for role in ("bos", "eos", "pad")}
    write_json(
        destination / "generation_config.json",
        {f"{role}_token_id": value for role, value in special.items() if value is not None},
    )
    write_tokenizer(
        destination,
        vocab_size=text.vocab_size,
        special=special,
        pattern=pattern_of(text.model_type, text.vocab_size),
        max_tokens=getattr(text, "max_position_embeddings", None) or 1 << 20,
    )


def _model_class(config: Any, architectures: list[str]) -> Any:
    """The class named by the config, else the one that AutoModelForCausalLM takes for its type.

    Raises:
        ValueError: neither exists.
    """
    import transformers
    from transformers import AutoModelForCausalLM

    for name in architectures:
        model_class = getattr(transformers, name, None)
        if model_class is not None:
            return model_class
    mapping = AutoModelForCausalLM._model_mapping  # noqa: SLF001  the public call would build the model at once
    if type(config) not in mapping:
        named = ", ".join(architectures) or "none"
        raise ValueError(
            f"random weights need a model class of transformers {transformers.__version__};"
            f" found model_type {config.model_type!r}, architectures: {named}"
        )
    return mapping[type(config)]


def _draw_zero_matrices(model: Any, seed: int) -> None:
    """Draw matrices that initializers leave at 0.

    A router of zeros (Afmoe's) scores all experts alike, and engines break such a tie differently: right ones would
    choose different experts.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * parameter.shape[-1] ** -0.5)


def _draw_biases(model: Any, seed: int) -> None:
    """Draw the biases of matrix products, which initializers leave at 0: else an engine that drops one would not show.

    A bias has the deviation of its product with inputs of deviation 1, times BIAS. Weights stay as they were drawn.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            weight: Any = getattr(module, "weight", None)
            bias: Any = getattr(module, "bias", None)
            if getattr(weight, "ndim", 0) != 2 or getattr(bias, "ndim", 0) != 1 or bias.any():
                continue
            size = BIAS * weight.float().std() * (weight.numel() / bias.numel()) ** 0.5
            bias.copy_(torch.randn(bias.shape, generator=draw) * size)


def _spread_scores(model: Any, vocab_size: int) -> None:
    """Give the last norm a gain of random signs, so large that scores have a standard deviation of SCORES_STD.

    Drawn by its initializer alone, a small model scores all tokens almost alike (granite-3.0-1b: a deviation of 0.1,
    and another prompt moves the distribution by 0.004 nats), and a model with tied embeddings repeats its last token
    for ever, since that token's own embedding matches best. Neither would show a wrong cache or a wrong position.
    Random signs end the match, the size spreads the scores, and every matrix stays as it was drawn.
    """
    import torch

    norms: list[Any] = []

    def called(module: Any, _inputs: Any, _output: Any) -> None:
        norms.append(module)

    head = model.get_output_embeddings()
    hooks = [
        module.register_forward_hook(called)
        for module in model.modules()
        if module is not head and getattr(getattr(module, "weight", None), "ndim", 0) == 1
    ]
    with torch.no_grad():
        logits = model.eval()(torch.randint(vocab_size, (1, PROBE_TOKENS)), use_cache=False).logits
        for hook in hooks:
            hook.remove()
        if not norms:
            return
        weight = norms[-1].weight
        size = SCORES_STD / logits.float().std(dim=-1).mean()
        gain = (torch.randint(2, weight.shape) * 2 - 1) * size
        # Gemma's norms multiply by 1 + weight, which starts at 0.
        weight.copy_(gain - 1 if not weight.any() else gain)


if __name__ == "__main__":
    write_random_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)

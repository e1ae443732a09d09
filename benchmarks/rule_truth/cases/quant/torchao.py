"""torchao's checkpoints, which transformers itself writes with the installed torchao."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIGS = {"torchao-int8": "Int8WeightOnlyConfig", "torchao-float8": "Float8WeightOnlyConfig"}
"""Format: torchao's class. Its four bits need kernels of a GPU already for packing."""


def write_torchao(name: str, source: Path, destination: Path, stands_for: Path) -> None:
    """Write both checkpoints; config.json stays as it is but for quantization_config."""
    import transformers
    from safetensors.torch import save_file
    from torchao import quantization

    coding = transformers.TorchAoConfig(getattr(quantization, CONFIGS[name])(version=2))
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, quantization_config=coding, dtype="auto")
    model.save_pretrained(destination)
    written = json.loads((destination / "config.json").read_text(encoding="utf-8"))
    shutil.copytree(
        source,
        destination,
        ignore=shutil.ignore_patterns("*.safetensors", "generation_config.json"),
        dirs_exist_ok=True,
    )
    shutil.copytree(source, stands_for, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = model.state_dict()
    if not any(map(_is_rounded, weights.values())):
        raise SystemExit("torchao has rounded no weight of a kind that is known here")
    plain = {layer: _meant(weight).contiguous() for layer, weight in weights.items()}
    save_file(plain, stands_for / "model.safetensors", metadata={"format": "pt"})
    config: Mapping[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for folder, changes in (
        (destination, {"quantization_config": written["quantization_config"]}),
        (stands_for, {"dtype" if "dtype" in config else "torch_dtype": "float32"}),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **changes}, indent=1) + "\n", encoding="utf-8")


def _meant(weight: Any) -> Any:
    """A weight in float32; of a rounded one what its codes mean."""
    return (weight.dequantize() if _is_rounded(weight) else weight.detach()).float()


def _is_rounded(weight: Any) -> bool:
    return type(weight).__name__ in {"Int8Tensor", "Float8Tensor"}

"""A GPTQ checkpoint from an unquantised one, rounded to nearest: what the matrix shows of quantised checkpoints.

`python -m benchmarks.engines.real_model.gptq_checkpoint SOURCE DESTINATION [--group-size 64]`

Speed does not depend on how well the weights were rounded, and the correctness check compares engines on the same
rounded weights, so no calibration data are needed.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BITS = 4
_PER_WORD = 32 // BITS
_MIDDLE = 1 << (BITS - 1)


def main() -> None:
    """Read the command line."""
    asked = argparse.ArgumentParser(
        prog="python -m benchmarks.engines.real_model.gptq_checkpoint", description=(__doc__ or "").partition("\n")[0]
    )
    asked.add_argument("source", type=Path, help="Hugging Face folder, unquantised")
    asked.add_argument("destination", type=Path)
    asked.add_argument("--group-size", type=int, default=64, help="weights that share a scale")
    write(**vars(asked.parse_args()))


def write(source: Path, destination: Path, group_size: int) -> None:
    """Write `source` with its linear layers in 4 bits, symmetric, in AutoGPTQ's layout."""
    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    destination.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            shutil.copy(file, destination / file.name)
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(source.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            layer = name.removesuffix(".weight")
            if tensor.ndim == 2 and layer.endswith("_proj"):
                tensors.update({f"{layer}.{part}": value for part, value in quantised(tensor, group_size).items()})
            else:
                tensors[name] = tensor.to(torch.float16)
    save_file(tensors, destination / "model.safetensors", metadata={"format": "pt"})
    config["torch_dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "gptq",
        "bits": BITS,
        "group_size": group_size,
        "sym": True,
        "desc_act": False,
        "checkpoint_format": "gptq",
        "lm_head": False,
    }
    config.pop("dtype", None)
    (destination / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def quantised(weight: "torch.Tensor", group_size: int) -> "dict[str, Any]":
    """The four tensors of a linear layer.

    Args:
        weight: [out, in]; `in` is a multiple of the group size, `out` of 8.

    Returns:
        qweight int32 [in / 8, out], qzeros int32 [in / group, out / 8] (one less than the zero point, as AutoGPTQ
        stores it), scales float16 [in / group, out], g_idx int32 [in].
    """
    import torch

    out, inner = weight.shape
    if inner % group_size or out % _PER_WORD:
        raise SystemExit(f"a weight of {out} x {inner} cannot be cut into groups of {group_size}")
    groups = weight.float().reshape(out, inner // group_size, group_size)
    scales = (groups.abs().amax(dim=2) / (_MIDDLE - 1)).clamp(min=1e-6).to(torch.float16)
    codes = (groups / scales.float()[:, :, None]).round().clamp(-_MIDDLE, _MIDDLE - 1) + _MIDDLE
    codes = codes.reshape(out, inner).T.contiguous().to(torch.int64)
    zeros = torch.full((inner // group_size, out), _MIDDLE - 1, dtype=torch.int64)
    return {
        "qweight": _packed(codes, 0),
        "qzeros": _packed(zeros, 1),
        "scales": scales.T.contiguous(),
        "g_idx": torch.arange(inner, dtype=torch.int32) // group_size,
    }


def _packed(codes: "torch.Tensor", axis: int) -> "torch.Tensor":
    """Eight codes a word along an axis, the first in the lowest bits."""
    import torch

    words = codes.unflatten(axis, (-1, _PER_WORD))
    shifts = torch.arange(0, 32, BITS).reshape([-1 if i == axis + 1 else 1 for i in range(words.ndim)])
    total = (words << shifts).sum(dim=axis + 1)
    return torch.where(total >= 1 << 31, total - (1 << 32), total).to(torch.int32).contiguous()


if __name__ == "__main__":
    main()

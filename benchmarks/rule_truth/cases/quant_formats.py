"""Writes quantised checkpoints by rounding to nearest, each with the plain checkpoint that it stands for.

`python -m benchmarks.rule_truth.cases.quant_formats FORMAT SOURCE DESTINATION` writes DESTINATION, and beside it, in
DESTINATION/../stands-for, the model whose float32 weights are what the codes mean: the reference is computed of that.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.rule_truth.cases.quant.table import FORMATS, Format
from benchmarks.rule_truth.cases.quant.torchao import CONFIGS, write_torchao

STANDS_FOR = "stands-for"
GGUF = "gguf-"
"""Formats of .gguf files begin with it; the rest names a variant of llamacpp, which writes it."""


def main() -> None:
    name, source, destination = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if name.startswith(GGUF):
        _write_gguf(name.removeprefix(GGUF), source, destination)
    elif name in CONFIGS:
        write_torchao(name, source, destination, destination.parent / STANDS_FOR)
    else:
        _write(FORMATS[name], source, destination, destination.parent / STANDS_FOR)


def _write(form: Format, source: Path, destination: Path, stands_for: Path) -> None:
    """Write both checkpoints."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for folder in (destination, stands_for):
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    coded, plain = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, tensor in load_file(source / "model.safetensors").items():
        if tensor.ndim > 1 and form.codes(name):
            parts, meant = form.quantise(tensor.float(), form.config)
            layer = name.removesuffix(".weight")
            coded |= {f"{layer}{suffix}": part.contiguous() for suffix, part in parts.items()}
            plain[name] = meant.contiguous()
        else:
            coded[name] = tensor
            plain[name] = tensor.float() if tensor.is_floating_point() else tensor
    if len(coded) == len(plain):
        raise SystemExit("no linear layer of the model is named as the format's writers know them")
    save_file(coded, destination / "model.safetensors", metadata={"format": "pt"})
    save_file(plain, stands_for / "model.safetensors", metadata={"format": "pt"})
    if form.beside:
        (destination / form.beside).write_text(json.dumps(form.config, indent=1) + "\n", encoding="utf-8")
    _write_config(destination, config if form.beside else {**config, "quantization_config": dict(form.config)})
    _write_config(stands_for, {**config, "dtype" if "dtype" in config else "torch_dtype": "float32"})


def _write_config(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_gguf(variant: str, source: Path, destination: Path) -> None:
    """A .gguf file, as the backend converts for its own use."""
    from calibration.backend import Job
    from calibration.registry import find

    backend = find("llamacpp")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    destination.mkdir()
    job = Job(
        model_dir=source,
        variant=backend.variant(variant),
        artifact_dir=destination,
        dtype=config.get("torch_dtype", "float32"),
        vocab_size=config["vocab_size"],
        device="cpu",
        threads=1,
        max_context_tokens=128,
        max_batch=2,
    )
    backend.prepare(job, destination, print)


GGUF_VARIANTS = ("f16", "q8_0", "q4_0", "q4_k_m")


if __name__ == "__main__":
    main()

"""A .gguf file dequantised into a Hugging Face folder, for the engines that take no .gguf file.

`python -m benchmarks.engines.real_model.gguf_folder FILE.gguf FOLDER`
"""

import sys
from pathlib import Path
from typing import Any


def main() -> None:
    export(Path(sys.argv[1]), Path(sys.argv[2]))


def export(file: Path, folder: Path) -> None:
    """Weights in float32, which holds what the file's blocks dequantise to; config and tokenizer from its metadata.

    transformers refuses to save a model that it read from a .gguf file, so a plain one of the same config takes over
    the weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": file.name}
    read: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
    config: Any = AutoConfig.from_pretrained(file.parent, **where)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        vars(config).pop(name, None)
    config.dtype = torch.float32
    config.architectures = [type(read).__name__]
    plain: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, **where).save_pretrained(folder)


if __name__ == "__main__":
    main()

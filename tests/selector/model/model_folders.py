"""Model folders for tests: `from tests.selector.model.model_folders import folder, golden`."""

import json
from pathlib import Path

from selector.model.spec import ModelSpec

GOLDEN = Path(__file__).parents[2] / "data" / "models"


def golden(name: str) -> ModelSpec:
    return ModelSpec.read(str(GOLDEN / name))


def folder(path: Path, config: object = None, **files: bytes | object) -> str:
    """A model folder: Qwen2.5-0.5B's config unless another is given, and files (`model__safetensors=b"..."`)."""
    path.mkdir(exist_ok=True)
    text = (GOLDEN / "gptq-8bit-g128-qwen2" / "config.json").read_text() if config is None else json.dumps(config)
    (path / "config.json").write_text(text)
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (path / name.replace("__", ".")).write_bytes(raw)
    return str(path)

"""Writes the JSON files of a checkpoint: its config, its generation config, its tokenizer's settings."""

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as those of published checkpoints are written: two spaces deep, a line end at the end."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

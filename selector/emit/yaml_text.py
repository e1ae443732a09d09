"""YAML as people write it: in the order of its fields, in blocks."""

from typing import Any


def yaml_text(content: Any) -> str:
    """A document of block style, in the order of its fields."""
    import yaml

    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1 << 16)
    return text

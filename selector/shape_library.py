"""The shapes that come with autobackend: real public configurations, each a folder with its config.json."""

import difflib
from pathlib import Path
from typing import Final

from calibration.errors import ModelError

PREFIX: Final = "shape:"
_LIBRARY: Final = Path(__file__).parent / "shapes"


def shape_names() -> tuple[str, ...]:
    """Names that `shape:NAME` takes, sorted."""
    return tuple(sorted(path.parent.name for path in _LIBRARY.glob("*/config.json")))


def shape_folder(name: str) -> Path:
    """The folder of a shape's config.json.

    Raises:
        ModelError: unknown name.
    """
    names = shape_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {PREFIX}{near[0]}? " if near else ""
        raise ModelError(f"there is no shape {name!r}", f"{hint}the shapes are {', '.join(names)}")
    return _LIBRARY / name

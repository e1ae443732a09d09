"""The shapes that come with autobackend: real public configurations, each a folder with its config.json."""

import difflib
import re
from pathlib import Path
from typing import Final

from calibration.errors import ModelError

PREFIX: Final = "shape:"
_LIBRARY: Final = Path(__file__).parent / "library"


def shape_names() -> tuple[str, ...]:
    """Names that `shape:NAME` takes, sorted."""
    return tuple(sorted(path.parent.name for path in _LIBRARY.glob("*/config.json")))


def shape_folder(name: str) -> Path:
    """The folder of a shape's config.json.

    Raises:
        ModelError: unknown name.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) or not (_LIBRARY / name / "config.json").is_file():
        names = shape_names()
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {PREFIX}{near[0]}? " if near else ""
        raise ModelError(f"there is no shape {name!r}", f"{hint}the shapes are {', '.join(names)}")
    return _LIBRARY / name

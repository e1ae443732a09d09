"""Names of distributions, and where one is kept apart from the others."""

import re
from pathlib import Path

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    """`torch>=2.4` -> `torch`, normalised."""
    found = _REQUIREMENT_NAME.match(requirement.strip())
    return normalise(found[0]) if found else normalise(requirement)


def beside_folder(python: Path, name: str) -> Path:
    """Where an environment keeps a distribution apart from the others, since its modules clash with theirs.

    `PREFIX/share/autobackend/NAME`, filled by `pip install --no-deps --target`.
    """
    return python.parent.parent / "share" / "autobackend" / normalise(name)

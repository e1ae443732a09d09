"""Names of distributions, and the folder of a distribution that is kept apart from the others."""

import re
from pathlib import Path

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it.

    >>> normalise('Flash_Attn.3')
    'flash-attn-3'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    """The normalised name in a requirement.

    >>> requirement_name('Torch_Thing[extra]>=2.4; python_version > "3"')
    'torch-thing'
    """
    name = _REQUIREMENT_NAME.match(requirement.strip())
    return normalise(name[0]) if name else normalise(requirement)


def beside_folder(python: Path, name: str) -> Path:
    """Where an interpreter keeps a distribution whose modules clash with those of the others.

    `PREFIX/share/autobackend/NAME`, filled by `pip install --no-deps --target`.
    """
    return python.parent.parent / "share" / "autobackend" / normalise(name)

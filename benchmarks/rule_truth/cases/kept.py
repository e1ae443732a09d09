"""What is kept of each case, so that rules can judge it later without its weights."""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A case as the rules see it."""

    case: str
    config: str
    """Digest of the case: see Case.digest."""
    kind: str
    content: Mapping[str, Any] = field(default_factory=dict)
    """config.json as it was loaded; empty of a .gguf file."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file, config.json left out."""
    heads: Mapping[str, str] = field(default_factory=dict)
    """Of a .gguf file what comes before its tensors, deflated, as base64."""


def kept_of(case: str, digest: str, kind: str, place: Path) -> Kept:
    """Of a case whose files are there.

    Args:
        place: its folder, or its .gguf file.
    """
    if place.is_file():
        head = base64.b64encode(zlib.compress(_head(place), 9)).decode()
        return Kept(
            case=case, config=digest, kind=kind, sizes={place.name: place.stat().st_size}, heads={place.name: head}
        )
    content = json.loads((place / "config.json").read_text(encoding="utf-8"))
    sizes = {f.name: f.stat().st_size for f in sorted(place.iterdir()) if f.is_file() and f.name != "config.json"}
    return Kept(case=case, config=digest, kind=kind, content=content, sizes=sizes)


def restore(kept: Kept, folder: Path) -> Path:
    """Write a case as the rules see it: its config, and files of the sizes that they had, without weights."""
    folder.mkdir(parents=True)
    for name, size in kept.sizes.items():
        with (folder / name).open("wb") as file:
            file.write(zlib.decompress(base64.b64decode(kept.heads.get(name, _NOTHING))))
            file.truncate(size)
    if not kept.content:
        return folder / next(iter(kept.sizes))
    (folder / "config.json").write_text(json.dumps(dict(kept.content)), encoding="utf-8")
    return folder


def read_cases(path: Path) -> Iterator[Kept]:
    """The cases of a file, a line each."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Kept(**json.loads(line))


def append_case(path: Path, case: Kept) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(case), separators=(",", ":")) + "\n")


_NOTHING = base64.b64encode(zlib.compress(b"")).decode()


def _head(path: Path) -> bytes:
    from gguf import GGUFReader

    with path.open("rb") as file:
        return file.read(GGUFReader(path).data_offset)

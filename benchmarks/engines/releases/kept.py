"""The files of releases that were read before: a release does not change, so it is read once."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.releases.metadata import Members
from calibration.whole_file import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A folder with a file for each release."""

    folder: Path

    def members(self, distribution: str, version: str, patterns: Sequence[str], read: Callable[[], Members]) -> Members:
        """What was read before with these patterns, or what `read` gives now."""
        file = self.folder / distribution / f"{version}.json"
        if file.exists():
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["patterns"] == list(patterns):
                members: dict[str, str] = content["members"]
                return members
        read_now = read()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"patterns": list(patterns), "members": dict(read_now)}))
        return read_now

    def versions(self, distribution: str) -> list[str]:
        """The releases that are kept, in no order."""
        return [file.stem for file in (self.folder / distribution).glob("*.json")]

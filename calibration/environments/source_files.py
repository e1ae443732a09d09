"""Files that only the source distribution of an engine's package has, and that are kept beside the interpreter."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFiles:
    """What is taken out of the source distribution of the very version of the engine's package that is installed.

    It lies in `distributions.beside_folder(python, name)` under the version of the package.
    """

    name: str
    """By which its folder and its version are found."""
    hashes: Path
    """A JSON object: version of the package: sha256 of its source distribution (.tar.gz)."""
    folder: str
    """Inside the source distribution; paths of what is kept are relative to it."""
    patterns: tuple[str, ...]
    """Of paths in that folder, `*` for anything; a file that matches one is kept."""
    takes: str
    """What fetching it takes, as a clause: `a download of 36 MiB`."""

    def sha256(self, version: str) -> str | None:
        """Of a version's source distribution; None where nobody noted it, so that it is not fetched."""
        known: dict[str, str] = json.loads(self.hashes.read_text(encoding="utf-8"))
        return known.get(version)

    @property
    def versions(self) -> tuple[str, ...]:
        """Those whose source distribution can be fetched, oldest first."""
        return tuple(json.loads(self.hashes.read_text(encoding="utf-8")))

    def unknown(self, package: str, version: str) -> str:
        """Why the files of a version of `package` are not fetched."""
        known = " and ".join(self.versions[-3:])
        return f"needs {self.name} of {package} {version}, whose hash is not known here (those of {known} are)"

"""Released packages where pip finds them, read as files: of a wheel only the wanted members, by ranges of bytes.

The doors that pip has for others neither tell the address of a file nor read a part of one, so its own modules are
asked: with its settings, certificates and retries, which are the user's.
"""

import io
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

from packaging.version import Version

from benchmarks.engines.releases.metadata import METADATA, Members

_RANGE_BYTES = 1 << 17
"""What is read at once: the table of contents of most wheels is within their last 128 KiB."""
_PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One file of a release."""

    distribution: str
    version: str
    filename: str
    link: Any
    """pip's."""


@contextmanager
def open_index(say: Callable[[str], None]) -> Iterator["PackageIndex"]:
    """The index that pip uses here.

    Args:
        say: called with each file that is read, and how.
    """
    with warnings.catch_warnings():
        # Where distutils is loaded already, setuptools takes it away before pip is imported: whoever holds it keeps it.
        warnings.filterwarnings("ignore", message="Setuptools is replacing distutils", category=UserWarning)
        from pip._internal.commands import create_command

    command: Any = create_command("index")
    options, _ = command.parse_args(["versions"])
    options.no_input = True
    with command._build_session(options) as session:  # noqa: SLF001  see the docstring on top
        finder = command._build_package_finder(  # noqa: SLF001
            options=options, session=session, target_python=None, ignore_requires_python=True
        )
        yield PackageIndex(session=session, finder=finder, say=say)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageIndex:
    """An index of packages, with what pip asks it by."""

    session: Any
    finder: Any
    say: Callable[[str], None]

    def releases(self, distribution: str, *, since: str, source: bool) -> list[Release]:
        """Final releases that nobody withdrew, oldest first, each with a file for this platform.

        Args:
            distribution: its name.
            since: the oldest.
            source: only source distributions.
        """
        files: dict[Version, list[Any]] = {}
        for candidate in self.finder.find_all_candidates(distribution):
            version = Version(str(candidate.version))
            if version.is_prerelease or version.local or version < Version(since) or candidate.link.is_yanked:
                continue
            if source is not candidate.link.is_wheel:
                files.setdefault(version, []).append(candidate.link)
        chosen = {version: min(links, key=lambda link: str(link.filename)) for version, links in files.items()}
        return [
            Release(distribution=distribution, version=str(version), filename=chosen[version].filename, link=link)
            for version, link in sorted(chosen.items())
        ]

    def members(self, release: Release, patterns: Sequence[str]) -> Members:
        """The text of the files that match, and METADATA; nothing is installed, and nothing is kept."""
        if release.link.is_wheel:
            with self._zip(release) as archive:
                names = {name: _wanted(name, patterns) for name in archive.namelist()}
                return {kept: archive.read(name).decode("utf-8") for name, kept in names.items() if kept}
        with self._whole(release) as file, tarfile.open(fileobj=file) as archive_of_source:
            return _of_source(archive_of_source, patterns)

    @contextmanager
    def _zip(self, release: Release) -> Iterator[ZipFile]:
        from pip._internal.network.lazy_wheel import HTTPRangeRequestUnsupported, LazyZipOverHTTP

        lazy: Any = LazyZipOverHTTP
        if not release.link.is_file:
            try:
                with lazy(release.link.url_without_fragment, self.session, chunk_size=_RANGE_BYTES) as ranges:
                    self.say(f"{release.filename}: by ranges")
                    with ZipFile(ranges) as archive:
                        yield archive
                return
            except HTTPRangeRequestUnsupported:
                pass
        with self._whole(release) as file, ZipFile(file) as archive:
            yield archive

    @contextmanager
    def _whole(self, release: Release) -> Iterator[IO[bytes]]:
        """The whole file, deleted afterwards where it was downloaded."""
        link = release.link
        if link.is_file:
            with Path(link.file_path).open("rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as file:
            headers = {"Accept-Encoding": "identity"}
            with self.session.get(link.url_without_fragment, headers=headers, stream=True) as response:
                response.raise_for_status()
                size = 0
                for part in response.iter_content(_PART_BYTES):
                    size += file.write(part)
            self.say(f"{release.filename}: {size >> 20} MiB")
            file.seek(0)
            yield file


def _of_source(archive: tarfile.TarFile, patterns: Sequence[str]) -> Members:
    members: dict[str, str] = {}
    for entry in archive:
        inside = entry.name.partition("/")[2]
        kept = METADATA if inside == "PKG-INFO" else inside if _matches(inside, patterns) else ""
        if kept and entry.isfile():
            content = archive.extractfile(entry) or io.BytesIO()
            members[kept] = content.read().decode("utf-8")
    return members


def _wanted(name: str, patterns: Sequence[str]) -> str:
    """The name under which a member of a wheel is kept; empty where it is not wanted."""
    if fnmatchcase(name, "*.dist-info/METADATA") and name.count("/") == 1:
        return METADATA
    return name if _matches(name, patterns) else ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

"""What each release of the engines has: read from released packages as files, written beside the backends.

`python -m benchmarks.engines.releases [BACKEND...] [--kept build/releases] [--offline]`

Packages are found as pip finds them here. Nothing of them is imported or run. What was read is kept, so that a run that
was stopped goes on where it was, and a second one reads only what was released since. The same releases give the same
bytes. A release that is written in a way that no reader knows, or that seems to have lost something, ends the command.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from packaging.version import Version

from benchmarks.engines.releases.kept import Kept
from benchmarks.engines.releases.metadata import Members
from benchmarks.engines.releases.package_index import PackageIndex, Release, open_index
from benchmarks.engines.releases.readers import READERS, Reader
from benchmarks.engines.releases.source import UnknownLayout
from benchmarks.engines.releases.spans import Contents, gathered, text_of
from calibration.errors import AutobackendError, UsageError
from calibration.whole_file import write_whole
from selector.rules.installed.releases import Releases


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.releases", description=__doc__)
    parser.add_argument("backends", nargs="*", metavar="BACKEND", help="all of them where none is named")
    parser.add_argument("--kept", type=Path, default=Path("build/releases"), help="the folder of what was read")
    parser.add_argument("--offline", action="store_true", help="only what was read before")
    arguments = parser.parse_args(argv)
    try:
        for reader in _named(arguments.backends):
            opened: AbstractContextManager[PackageIndex | None] = (
                nullcontext() if arguments.offline else open_index(_say)
            )
            with opened as index:
                releases = history(reader, all_members(reader, Kept(folder=arguments.kept), index))
                if index is not None and reader.hashes is not None:
                    write(
                        reader.hashes,
                        hashes(index.releases(reader.distribution, since=reader.hashes_since, source=True)),
                    )
            changed = write(reader.file, text_of(releases))
            print(summary(reader, releases, changed=changed))
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def all_members(reader: Reader, kept: Kept, index: PackageIndex | None) -> dict[str, Members]:
    """The files of each release that is to be read, oldest first; without an index of those that are kept."""
    name, patterns = reader.distribution, patterns_of(reader.distribution)
    if index is None:
        versions = sorted((v for v in kept.versions(name) if Version(v) >= Version(reader.since)), key=Version)
        return {version: kept.members(name, version, patterns, _not_kept) for version in versions}
    releases = chosen(index.releases(name, since=reader.since, source=reader.source), reader.every)
    return {r.version: kept.members(name, r.version, patterns, partial(index.members, r, patterns)) for r in releases}


def patterns_of(distribution: str) -> list[str]:
    """What all readers of a distribution look at: its releases are read once for all of them."""
    return sorted({p for reader in READERS if reader.distribution == distribution for p in reader.members})


def chosen(releases: Sequence[Release], every: int) -> list[Release]:
    """Each so manieth, counted from the oldest, and the newest."""
    return [r for number, r in enumerate(releases) if number % every == 0 or r is releases[-1]]


def history(reader: Reader, members: Mapping[str, Members]) -> Releases:
    """What the releases have, by their files.

    Raises:
        UnknownLayout: with the release that cannot be read.
    """
    contents: dict[str, Contents] = {}
    for version, files in members.items():
        try:
            contents[version] = reader.read(files)
        except UnknownLayout as error:
            raise UnknownLayout(f"{reader.distribution} {version}: {error.message}", error.mend) from error
    if not contents:
        raise UnknownLayout(f"{reader.distribution}: needs a release since {reader.since}; found none")
    return gathered(reader.distribution, contents, reader.confirmed)


def write(file: Path, text: str) -> bool:
    """Write the file where its content changes; whether it does."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    file.parent.mkdir(exist_ok=True)
    write_whole(file, text)
    return True


def hashes(releases: Iterable[Release]) -> str:
    """Version: sha256 of its source distribution, as the index tells it, for what is fetched from there later."""
    told = {release.version: release.link.hash for release in releases if release.link.hash_name == "sha256"}
    return (
        "{\n"
        + ",\n".join(f" {json.dumps(version)}: {json.dumps(sha256)}" for version, sha256 in told.items())
        + "\n}\n"
    )


def summary(reader: Reader, releases: Releases, *, changed: bool) -> str:
    """`turbomind: 41 releases of lmdeploy, 0.6.0 to 0.18.0: 40 architectures, 5 quant methods; written`."""
    return (
        f"{reader.backend}: {len(releases.read)} releases of {releases.distribution}, {releases.read[0]} to"
        f" {releases.read[-1]}: {len(releases.architectures)} architectures, {len(releases.quant_methods)} quant"
        f" methods; {'written' if changed else 'unchanged'}"
    )


def _named(backends: Iterable[str]) -> list[Reader]:
    readers = {reader.backend: reader for reader in READERS}
    unknown = [name for name in backends if name not in readers]
    if unknown:
        raise UsageError(f"no reader for {', '.join(unknown)}", f"known are: {', '.join(readers)}")
    return [readers[name] for name in backends] or list(READERS)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _not_kept() -> Members:
    raise UsageError("a release was kept with other patterns than the readers have now", "leave out --offline")

"""A program: takes some files out of a package's source distribution, which is found and read as pip does it here.

`python -I source_archive.py ORDER`, the order being a JSON object. Nothing of the distribution is built or run: pip's
own `download` would run its setup.py to learn its metadata. So pip's modules are asked, with the user's own index,
mirrors, proxies and certificates. Errors are a line on stderr that begins with ERROR, as those of pip are.
"""

import fnmatch
import hashlib
import json
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

_PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted."""

    distribution: str
    version: str
    sha256: str
    """Of the source distribution (.tar.gz)."""
    folder: str
    """Inside the source distribution."""
    patterns: tuple[str, ...]
    """Of paths in that folder."""
    name: str
    """Under which the files are kept: their version is found by it."""
    destination: Path
    """A folder that holds nothing else; one that is there is replaced."""


def main() -> None:
    """Fetch, check, unpack; the destination appears whole or not at all."""
    content = json.loads(sys.argv[1])
    order = Order(**content | {"patterns": tuple(content["patterns"]), "destination": Path(content["destination"])})
    try:
        from pip._internal.exceptions import PipError
    except ImportError:
        sys.exit(f"ERROR: {sys.executable} has no pip")
    try:
        take(order)
    except (OSError, ValueError, tarfile.TarError, EOFError, zlib.error, PipError) as error:
        sys.exit(f"ERROR: {' '.join(str(error).split())}")


def take(order: Order) -> None:
    """Put the files of an order into its destination.

    Raises:
        ValueError: no such source distribution, another content than expected, or none of the files in it.
        OSError: the index cannot be reached, or the disk cannot be written.
    """
    with tempfile.TemporaryFile() as file:
        began = time.monotonic()
        _read(order, file)
        _check(order, file)
        print(f"read {file.tell() / 2**20:.1f} MiB in {time.monotonic() - began:.1f} s", flush=True)
        file.seek(0)
        order.destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=order.destination.parent, prefix=f".{order.name}-") as scratch:
            fresh, old = Path(scratch) / "new", Path(scratch) / "old"
            count = unpack(file, order, fresh)
            if order.destination.exists():
                order.destination.rename(old)
            fresh.rename(order.destination)
    print(f"{count} files of {order.distribution} {order.version} in {order.destination}", flush=True)


def unpack(file: IO[bytes], order: Order, destination: Path) -> int:
    """Write the wanted files of a .tar.gz, and a .dist-info that tells their version.

    Returns:
        How many files.

    Raises:
        ValueError: the archive has none of them.
    """
    count = 0
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        for entry in archive:
            path = PurePosixPath(entry.name)
            inside = PurePosixPath(*path.parts[1:])
            if not entry.isfile() or ".." in path.parts or not inside.is_relative_to(order.folder):
                continue
            kept = inside.relative_to(order.folder)
            if not any(fnmatch.fnmatchcase(str(kept), pattern) for pattern in order.patterns):
                continue
            place = destination / kept
            place.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(entry)
            assert content is not None  # it is a file
            with place.open("wb") as written:
                shutil.copyfileobj(content, written)
            count += 1
    if not count:
        raise ValueError(f"needs {' or '.join(order.patterns)} in {order.folder} of {order.distribution}; found none")
    about = destination / f"{order.name.replace('-', '_')}-{order.version}.dist-info"
    about.mkdir()
    text = f"Metadata-Version: 2.1\nName: {order.name}\nVersion: {order.version}\n"
    (about / "METADATA").write_text(text, encoding="utf-8")
    return count


def _read(order: Order, file: IO[bytes]) -> None:
    """Write the source distribution of the order's version into a file."""
    wanted = f"{order.distribution} {order.version}"
    with _session() as (session, finder):
        print(f"Collecting {order.distribution}=={order.version}", flush=True)
        links = [
            candidate.link
            for candidate in finder.find_all_candidates(order.distribution)
            if str(candidate.version) == order.version and candidate.link.filename.endswith(".tar.gz")
        ]
        if not links:
            raise ValueError(f"no source distribution of {wanted} is where pip looks for packages")
        link = links[0]
        if link.is_file:
            with Path(link.file_path).open("rb") as local:
                shutil.copyfileobj(local, file)
            return
        headers = {"Accept-Encoding": "identity"}  # the file as it is: its hash is known
        with session.get(link.url_without_fragment, headers=headers, stream=True) as response:
            response.raise_for_status()
            for part in response.iter_content(_PART_BYTES):
                file.write(part)


def _check(order: Order, file: IO[bytes]) -> None:
    """Leaves the file at its end. Raises ValueError where it has another hash."""
    file.seek(0)
    digest = hashlib.sha256()
    while part := file.read(_PART_BYTES):
        digest.update(part)
    found = digest.hexdigest()
    if found != order.sha256:
        raise ValueError(
            f"the source distribution of {order.distribution} {order.version} should have the sha256 {order.sha256};"
            f" found {found}"
        )


@contextmanager
def _session() -> Iterator[tuple[Any, Any]]:
    """pip's session and its finder of source distributions, with all settings of the user."""
    from pip._internal.commands import create_command
    from pip._internal.models.format_control import FormatControl
    from pip._internal.utils.logging import setup_logging

    # Where no index can be reached, pip says so in a message for debugging alone.
    setup_logging(verbosity=2, no_color=True, user_log_file=None)
    command: Any = create_command("index")
    options, _ = command.parse_args(["versions"])
    options.no_input = True
    options.format_control = FormatControl({":all:"}, set())
    with command._build_session(options) as session:  # noqa: SLF001  see the docstring on top
        finder = command._build_package_finder(  # noqa: SLF001
            options=options, session=session, target_python=None, ignore_requires_python=True
        )
        yield session, finder


if __name__ == "__main__":
    main()

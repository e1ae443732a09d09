"""Packages are read from an index on this host: by ranges where its server allows them, whole where not."""

import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from benchmarks.engines.releases.kept import Kept
from benchmarks.engines.releases.metadata import METADATA, Members
from benchmarks.engines.releases.package_index import open_index
from benchmarks.engines.releases.readers import Reader
from benchmarks.engines.releases.releases import all_members, chosen, history, write
from benchmarks.engines.releases.source import UnknownLayout
from benchmarks.engines.releases.spans import Contents
from calibration.errors import UsageError

# pip imports its own copies of libraries that warn.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[4]
LARGE = 4 << 20
"""Bytes of a member that nobody wants to read."""
PATTERNS = ["engine/*.py"]


def a_wheel(folder: Path, version: str, table: str = "TABLE = {'A': 1}\n", python: str = ">=3.8") -> None:
    info = f"engine-{version}.dist-info"
    with ZipFile(folder / f"engine-{version}-py3-none-any.whl", "w", ZIP_STORED) as wheel:
        wheel.writestr("engine/table.py", table)
        wheel.writestr("engine/deep/table.py", "not wanted? it matches, since * is any text")
        wheel.writestr("engine/library.so", b"\0" * LARGE)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: engine\nVersion: {version}\nRequires-Python: {python}\n"
        )


def a_source(folder: Path, version: str) -> None:
    with tarfile.open(folder / f"engine-{version}.tar.gz", "w:gz") as archive:
        for name, text in {
            "PKG-INFO": f"Name: engine\nVersion: {version}\n",
            "engine/table.py": "TABLE = {'S': 1}\n",
            "setup.py": "raise SystemExit('nobody runs this')\n",
        }.items():
            entry = tarfile.TarInfo(f"engine-{version}/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


@contextmanager
def served(folder: Path, *, ranges: bool, withdrawn: str = "") -> Iterator[tuple[str, list[int]]]:
    """The address of an index of the folder's files, and how many bytes each answer had."""
    sent: list[int] = []
    yanked = ' data-yanked=""'

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            if self.path.startswith("/simple/"):
                links = "".join(
                    f'<a href="/files/{file.name}"{yanked if file.name == withdrawn else ""}>{file.name}</a>'
                    for file in sorted(folder.iterdir())
                )
                content, status, kind = f"<!DOCTYPE html>\n<html><body>{links}</body></html>".encode(), 200, "text/html"
            else:
                content, status, kind = (folder / Path(self.path).name).read_bytes(), 200, "application/octet-stream"
            wanted = self.headers.get("Range")
            if wanted and ranges:
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                content, status = content[int(start) : int(end) + 1], 206
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if body:
                self.wfile.write(content)
                sent.append(len(content))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple/", sent
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def _pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip without the user's settings."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


def test_releases_are_final_and_oldest_first(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("0.9", "0.10", "0.10.1rc1", "1.0", "0.2", "0.11"):
        a_wheel(files, version, python=">=3.99" if version == "1.0" else ">=3.8")
    a_source(files, "1.1")
    with served(files, ranges=True, withdrawn="engine-0.11-py3-none-any.whl") as (address, _):
        monkeypatch.setenv("PIP_INDEX_URL", address)
        with open_index(print) as index:
            wheels = index.releases("engine", since="0.9", source=False)
            sources = index.releases("engine", since="0.9", source=True)
    assert [release.version for release in wheels] == ["0.9", "0.10", "1.0"]
    assert [release.filename for release in sources] == ["engine-1.1.tar.gz"]
    assert [release.version for release in chosen(wheels, 2)] == ["0.9", "1.0"]
    assert [release.version for release in chosen([*wheels, *sources], 3)] == ["0.9", "1.1"]


@pytest.mark.parametrize("ranges", [True, False])
def test_of_a_wheel_the_wanted_members_are_read(files: Path, ranges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    a_wheel(files, "1.0")
    said: list[str] = []
    with served(files, ranges=ranges) as (address, sent):
        monkeypatch.setenv("PIP_INDEX_URL", address)
        with open_index(said.append) as index:
            [release] = index.releases("engine", since="1", source=False)
            members = index.members(release, ["engine/table.py"])
    assert members == {
        "engine/table.py": "TABLE = {'A': 1}\n",
        METADATA: "Metadata-Version: 2.1\nName: engine\nVersion: 1.0\nRequires-Python: >=3.8\n",
    }
    assert (sum(sent) < LARGE / 4) is ranges
    assert said == ["engine-1.0-py3-none-any.whl: by ranges" if ranges else "engine-1.0-py3-none-any.whl: 4 MiB"]


def test_a_source_distribution_is_unpacked_in_memory_and_not_built(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_source(files, "1.0")
    with served(files, ranges=True) as (address, _):
        monkeypatch.setenv("PIP_INDEX_URL", address)
        with open_index(print) as index:
            [release] = index.releases("engine", since="1", source=True)
            members = index.members(release, PATTERNS)
    assert members == {"engine/table.py": "TABLE = {'S': 1}\n", METADATA: "Name: engine\nVersion: 1.0\n"}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="needs distutils, which Python has until 3.11")
def test_a_program_that_has_imported_distutils_is_not_warned() -> None:
    program = """
import distutils
from benchmarks.engines.releases.package_index import open_index
with open_index(print):
    pass
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def a_reader(file: Path) -> Reader:
    def read(members: Members) -> Contents:
        if "TABLE" not in members["engine/table.py"]:
            raise UnknownLayout("engine/table.py: needs TABLE; found none", "look")
        return Contents(architectures={"A": "engine/table.py:1"})

    return Reader(backend="fake", distribution="engine", since="1", file=file, members=("engine/*.py",), read=read)


def test_a_release_is_read_once_and_a_second_run_changes_no_byte(tmp_path: Path) -> None:
    kept, reader, read = Kept(folder=tmp_path / "kept"), a_reader(tmp_path / "beside" / "r.json"), list[str]()

    def of(version: str) -> Members:
        def now() -> Members:
            read.append(version)
            return {"engine/table.py": "TABLE"}

        return kept.members("engine", version, PATTERNS, now)

    assert of("1.0") == of("1.0") == {"engine/table.py": "TABLE"}
    assert of("1.1") == {"engine/table.py": "TABLE"}
    assert read == ["1.0", "1.1"]
    assert kept.members("engine", "1.1", ["other"], lambda: {"other": ""}) == {"other": ""}
    assert sorted(kept.versions("engine")) == ["1.0", "1.1"]
    assert write(reader.file, "text")
    written = reader.file.stat().st_mtime_ns
    assert not write(reader.file, "text")
    assert reader.file.stat().st_mtime_ns == written


def test_the_release_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownLayout) as raised:
        history(a_reader(tmp_path), {"1.0": {"engine/table.py": "TABLE"}, "1.1": {"engine/table.py": "x"}})
    assert raised.value.message == "engine 1.1: engine/table.py: needs TABLE; found none"
    with pytest.raises(UnknownLayout, match=r"engine: needs a release since 1; found none"):
        history(a_reader(tmp_path), {})


def test_offline_there_is_what_was_kept(tmp_path: Path) -> None:
    kept = Kept(folder=tmp_path)
    for version in ("1.10", "1.9", "0.1"):
        kept.members("engine", version, [], dict)
    assert list(all_members(a_reader(tmp_path), kept, None)) == ["1.9", "1.10"]
    kept.members("engine", "1.11", ["older patterns"], dict)
    with pytest.raises(UsageError, match="kept with other patterns"):
        all_members(a_reader(tmp_path), kept, None)

"""Files out of a source distribution: found by a real pip, checked, whole or not at all; nothing of it is run."""

import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from calibration.environments.distributions import beside_folder
from calibration.environments.fetch import fetch
from calibration.environments.packages import beside
from calibration.environments.pip import PipFailed
from calibration.environments.source_files import SourceFiles
from calibration.errors import InstallError
from tests.toy_packages import offline

FILES = {
    "PKG-INFO": "Metadata-Version: 2.1\nName: toy-engine\nVersion: 1.0\n",
    "setup.py": "raise SystemExit('somebody ran it')\n",
    "inner/LICENSE": "free\n",
    "inner/convert/one.py": "ONE = 1\n",
    "inner/convert/deep/two.py": "TWO = 2\n",
    "inner/convert/data.bin": "x" * 100,
    "inner/../escaped.py": "",
    "other/convert/one.py": "OTHER = 1\n",
}


@pytest.fixture(autouse=True)
def environ(tmp_path: Path) -> Iterator[None]:
    """pip finds the test's own archive and nothing else."""
    before = dict(os.environ)
    os.environ |= offline(tmp_path / "wheels")
    yield
    os.environ.clear()
    os.environ.update(before)


def archive(folder: Path, version: str, files: Mapping[str, str] = FILES) -> str:
    """Write a source distribution of toy-engine; returns its sha256."""
    path = folder / f"toy_engine-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as written:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"toy_engine-{version}/{name}")
            entry.size = len(text.encode())
            written.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo(f"toy_engine-{version}/inner/convert/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        written.addfile(link)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_files(folder: Path, **hashes: str) -> SourceFiles:
    """`v1_0=...`: the hash of version 1.0."""
    file = folder / "sources.json"
    file.write_text(json.dumps({name.removeprefix("v").replace("_", "."): sha256 for name, sha256 in hashes.items()}))
    return SourceFiles(
        name="toy-converter",
        hashes=file,
        folder="inner",
        patterns=("LICENSE", "convert/*.py"),
        takes="a download of 1 KiB",
    )


class Place:
    """An interpreter of the test's own, whose pip is ours: what is fetched lies beside it."""

    def __init__(self, root: Path) -> None:
        self.python = root / "venv" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        self.folder = beside_folder(self.python, "toy-converter")
        self.temporary = root / "tmp"
        self.temporary.mkdir()
        self.said: list[str] = []
        self.log = io.StringIO()

    def fetch(self, files: SourceFiles, version: str) -> None:
        fetch(
            self.python,
            files,
            "toy-engine",
            version,
            temporary=self.temporary,
            log=self.log,
            say=lambda what, now="": self.said.append(f"{what}: {now}"),
        )

    def kept(self) -> list[str]:
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file())


def test_files_of_the_very_version_are_kept_apart(tmp_path: Path) -> None:
    place = Place(tmp_path)
    sha256 = archive(tmp_path / "wheels", "1.0")
    place.fetch(source_files(tmp_path, v1_0=sha256), "1.0")
    assert place.said == ["fetching toy-converter 1.0: a download of 1 KiB, from the source distribution of toy-engine"]
    assert place.kept() == [
        "LICENSE", "convert/deep/two.py", "convert/one.py", "toy_converter-1.0.dist-info/METADATA",
    ]  # fmt: skip
    assert (place.folder / "convert/one.py").read_text() == "ONE = 1\n"
    assert beside(place.python, "toy-converter") == "1.0"
    assert list(place.temporary.iterdir()) == []


def test_those_of_another_version_are_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    hashes = {"v1_0": archive(tmp_path / "wheels", "1.0")}
    newer = {"inner/convert/three.py": "THREE = 3\n"}
    hashes["v2_0"] = archive(tmp_path / "wheels", "2.0", newer)
    files = source_files(tmp_path, **hashes)
    place.fetch(files, "1.0")
    place.fetch(files, "2.0+cpu")
    assert place.kept() == ["convert/three.py", "toy_converter-2.0.dist-info/METADATA"]
    assert beside(place.python, "toy-converter") == "2.0"
    assert [entry.name for entry in place.folder.parent.iterdir()] == ["toy-converter"]


def test_another_content_than_expected_is_not_unpacked(tmp_path: Path) -> None:
    place = Place(tmp_path)
    sha256 = archive(tmp_path / "wheels", "1.0")
    with pytest.raises(PipFailed) as failed:
        place.fetch(source_files(tmp_path, v1_0="0" * 64), "1.0")
    assert failed.value.reason == (
        f"the source distribution of toy-engine 1.0 should have the sha256 {'0' * 64}; found {sha256}"
    )
    assert not place.folder.exists()


def test_a_version_whose_hash_nobody_noted_is_not_fetched(tmp_path: Path) -> None:
    place = Place(tmp_path)
    archive(tmp_path / "wheels", "3.0")
    with pytest.raises(InstallError) as failed:
        place.fetch(source_files(tmp_path, v1_0="0" * 64, v2_0="1" * 64), "3.0")
    assert failed.value.message == (
        "needs toy-converter of toy-engine 3.0, whose hash is not known here (those of 1.0 and 2.0 are)"
    )
    assert failed.value.mend == 'pip install "toy-engine==2.0"'
    assert (place.said, place.folder.exists()) == ([], False)


def test_an_index_without_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(PipFailed) as failed:
        place.fetch(source_files(tmp_path, v1_0="0" * 64), "1.0")
    assert failed.value.reason == "no source distribution of toy-engine 1.0 is where pip looks for packages"


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path)
    os.environ["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    with pytest.raises(PipFailed) as failed:
        place.fetch(source_files(tmp_path, v1_0="0" * 64), "1.0")
    assert failed.value.reason == (
        "no package index could be reached: no source distribution of toy-engine 1.0 is where pip looks for packages"
    )


def test_an_archive_without_the_files(tmp_path: Path) -> None:
    place = Place(tmp_path)
    sha256 = archive(tmp_path / "wheels", "1.0", {"PKG-INFO": "", "elsewhere/convert/one.py": ""})
    with pytest.raises(PipFailed) as failed:
        place.fetch(source_files(tmp_path, v1_0=sha256), "1.0")
    assert failed.value.reason == "needs LICENSE or convert/*.py in inner of toy-engine; found none"
    assert not place.folder.exists()


def test_an_interpreter_without_pip(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.python.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    with pytest.raises(PipFailed, match=rf"^{sys.executable} has no pip$"):
        place.fetch(source_files(tmp_path, v1_0="0" * 64), "1.0")

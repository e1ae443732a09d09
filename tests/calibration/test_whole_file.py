"""A file that is written whole or not at all, with the permissions it should have."""

import os
import stat
from pathlib import Path

import pytest

from calibration.whole_file import write_whole


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_can_be_read_by_all_and_one_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "é")
    assert (path.read_bytes(), mode(path)) == ("é".encode(), 0o644)
    path.chmod(0o600)
    write_whole(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    write_whole(path, "", mode=0o640)
    assert (path.read_text(), mode(path)) == ("", 0o640)
    assert os.listdir(tmp_path) == ["a.json"]  # noqa: PTH208


def test_what_cannot_be_written_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\udc80")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", "new")
    assert (path.read_text(), sorted(os.listdir(tmp_path))) == ("old", ["a.json", "folder"])  # noqa: PTH208

"""The file of a host: what is read from it, and what is not."""

from pathlib import Path

import pytest

from calibration.errors import CacheError
from selector.publish.hosts.host_file import read


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": "autobackend-results", "version": 1}',
        '{"format": 1, "version": 2}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_hosts_results_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(CacheError, match=r"x\.json is"):
        read(path)

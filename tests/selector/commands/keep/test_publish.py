"""`autobackend publish`: the files that it names."""

from pathlib import Path

from selector.host.spec import HostSpec
from tests.selector.commands.calling import run


def test_publish(path: Path, tmp_path: Path, host: HostSpec) -> None:
    out = tmp_path / "results"
    found = run("publish", "--cache", path, "--out", out)
    assert found.stdout.splitlines() == [
        str(out / "hosts" / f"{host.identifier}.json"),
        str(out / "matrix.md"),
        str(out / "matrix.html"),
        str(out / "hosts" / f"{host.identifier}.md"),
    ]

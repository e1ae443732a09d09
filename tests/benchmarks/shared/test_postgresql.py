"""The server of the tests and benchmarks: its programs from the wheel, and a cluster that stays."""

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.shared import postgresql
from benchmarks.shared.postgresql import WHEEL, Missing, programs, running


@pytest.fixture
def wheel_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No PostgreSQL on this machine but the wheel's, in an environment that is closed to all other users."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the package {WHEEL.replace('_', '-')}")
    package = Path(spec.submodule_search_locations[0])
    site = tmp_path / "closed"
    site.mkdir(mode=0o700)
    for place in (package, package.with_name(f"{WHEEL}.libs")):
        shutil.copytree(place, site / place.name, symlinks=True)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgresql, "PROGRAMS", str(tmp_path))
    importlib.invalidate_caches()
    programs.cache_clear()
    yield site
    programs.cache_clear()


@pytest.mark.slow
def test_the_programs_of_the_wheel_run_where_others_may_not_read_it(wheel_alone: Path) -> None:
    assert programs() == wheel_alone / WHEEL / "pginstall" / "bin"
    with running() as server, server.database() as name:
        assert server.run("SELECT current_database()", database=name) == [(name,)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach: pytest's own are closed to all but root."""
    try:
        programs()
    except Missing as missing:
        pytest.skip(str(missing))
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made) / "kept"


@pytest.mark.slow
def test_a_cluster_that_is_kept_is_there_the_next_time(folder: Path) -> None:
    with running(keep=folder) as server:
        server.run("CREATE TABLE numbers (number int)", "INSERT INTO numbers VALUES (7)")
    with running(keep=folder) as server:
        assert server.run("SELECT number FROM numbers") == [(7,)]


@pytest.mark.slow
def test_a_cluster_that_was_never_finished_is_made_anew(folder: Path) -> None:
    (folder / "cluster").mkdir(parents=True)
    (folder / "cluster" / "PG_VERSION").write_text("15\n")
    with running(keep=folder) as server:
        assert server.run("SELECT 1") == [(1,)]

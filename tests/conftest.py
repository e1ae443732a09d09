"""Every test keeps to folders of its own: nothing is read from or written to the user's home, nothing is downloaded."""

import atexit
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calibration.supervision import device_lock as lock

if TYPE_CHECKING:
    from benchmarks.shared.postgresql import Server
    from calibration.cache.cache import Cache

HOME = Path(tempfile.mkdtemp(prefix="autobackend-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# Set before any test module is imported, so that child processes inherit them.
os.environ |= {
    "AUTOBACKEND_CACHE": str(HOME / "cache.db"),
    "AUTOBACKEND_ARTIFACTS": str(HOME / "artifacts"),
    "AUTOBACKEND_CONFIG": str(HOME / "config.toml"),
    "AUTOBACKEND_ENVIRONMENTS": str(HOME / "environments"),
    "HF_HOME": str(HOME / "huggingface"),
    # A test's calibration and one of the machine's do not wait for each other, nor do those of two test processes.
    "AUTOBACKEND_LOCKS": str(HOME / "locks"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Of the predictions' matrices, which are small: on a busy machine numpy's threads only wait for each other.
    "OPENBLAS_NUM_THREADS": "1",
}
for _name in ("AUTOBACKEND_FLEET_CACHE", "PGPASSWORD", "PGSERVICE", "PGOPTIONS", "PGSSLMODE"):
    os.environ.pop(_name, None)

lock.FOLDER = HOME / "locks"  # it was imported before

if importlib.util.find_spec("hypothesis"):  # LMDeploy's tests have none
    from hypothesis import settings

    # How long an example takes is the machine's business: on a busy one the first takes a second.
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")

# Other versions of torch and transformers than ours: `make test` runs this folder in .venv-lmdeploy.
collect_ignore = [] if importlib.util.find_spec("lmdeploy") else ["lmdeploy"]


@pytest.fixture
def cache(tmp_path: Path) -> "Iterator[Cache]":
    """An open cache without rows."""
    from calibration.cache.cache import Cache  # LMDeploy's tests have no SQLAlchemy

    with Cache.open(tmp_path / "cache.db") as opened:
        yield opened


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[Server]":
    """A live PostgreSQL of this test process."""
    from benchmarks.shared import postgresql as live

    try:
        with live.running() as server:
            yield server
    except live.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def template(postgresql: "Server") -> "Iterator[str]":
    """A database with the cache's tables and no rows, of which copies are made in no time."""
    from calibration.cache.cache import Cache

    with postgresql.database() as name:
        Cache.open(postgresql.url(name), fleet="").close()
        yield name


@pytest.fixture
def database(postgresql: "Server", template: str) -> "Iterator[str]":
    """The URL of a PostgreSQL database that is an empty cache."""
    with postgresql.database(template) as name:
        yield postgresql.url(name)

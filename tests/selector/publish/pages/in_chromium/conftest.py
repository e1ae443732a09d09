"""The page of all hosts in results/hosts, and a window of Chromium that shows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.registry import all_backends
from selector.publish.hosts.host_file import HostResults, read
from selector.publish.matrix.matrix import Matrix, matrix
from selector.publish.pages.html import html
from tests.selector.publish.chromium import Browser

FOLDER = Path(__file__).parents[5] / "results" / "hosts"


@pytest.fixture(scope="session")
def results() -> Matrix:
    hosts = sorted((read(path) for path in FOLDER.glob("*.json")), key=lambda host: (host.device, host.host))
    return matrix(hosts, [f"{name}:{v.name}" for name, b in all_backends().items() for v in b.variants])


@pytest.fixture(scope="session")
def page(results: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "matrix.html"
    path.write_text(html(results), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A window of 1400 x 900 in which nothing is emulated; no test may leave a word on its console."""
    chromium.scripts(run=True)
    chromium.media()
    chromium.resize(1400)
    chromium.complaints()
    yield chromium
    assert chromium.complaints() == []


@pytest.fixture
def host(results: Matrix) -> HostResults:
    """The host with most rows."""
    return max(results.hosts, key=lambda host: len(results.of(host)))

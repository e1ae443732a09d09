"""A model in a folder, a candidate chosen for it, and an empty artifact store."""

from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from selector.answer import Selection
from selector.host.spec import HostSpec
from tests.selector.answering import HOST
from tests.selector.emit.emitting import Choose, chosen, model_folder


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "Tiny Chat-1.5")


@pytest.fixture
def choose(folder: Path, cache: Cache) -> Choose:
    """choose(label, host=..., model=...) -> a selection of the folder whose answer is that candidate."""

    def made(label: str, *, model: Path | str = folder, host: HostSpec = HOST, **asked: Any) -> Selection:
        return chosen(model, label, cache, host=host, **asked)

    return made

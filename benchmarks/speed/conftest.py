"""The model and the host that the benchmarks ask about."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.speed.caches import stocked
from selector.model.spec import ModelSpec
from selector.planning.plan import Plan, plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of our own instead of the user's."""
    folder = tmp_path_factory.mktemp("home")
    os.environ |= {
        "AUTOBACKEND_CACHE": str(folder / "cache.db"),
        "AUTOBACKEND_ARTIFACTS": str(ROOT / "build" / "benchmarks" / "artifacts"),
        "AUTOBACKEND_CONFIG": str(folder / "config.toml"),
        "HF_HUB_OFFLINE": "1",
    }
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hub has it: a real config.json, and weights of the right size that nobody reads."""
    folder = tmp_path_factory.mktemp("models") / "Qwen2.5-0.5B"
    folder.mkdir()
    shutil.copy(ModelSpec.read("shape:qwen2.5-0.5b").folder / "config.json", folder)
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(988_097_824)
    return folder


@pytest.fixture(scope="session")
def planned(model: Path) -> Plan:
    """What would be calibrated for the model here."""
    return plan(str(model))


@pytest.fixture(scope="session")
def cache_of(planned: Plan) -> Callable[[int], Path]:
    """A cache with that many launches, the model's among them."""
    return lambda rows: stocked(planned, rows)


@pytest.fixture(scope="session")
def lmdeploy_python() -> Path:
    """The interpreter of LMDeploy's tests."""
    python = ROOT / ".venv-lmdeploy" / "bin" / "python"
    if shutil.which(python) is None:
        pytest.skip("needs .venv-lmdeploy (make test makes it)")
    return python

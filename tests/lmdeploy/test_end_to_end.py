"""The main job with LMDeploy's engines: judge, time, check, keep and select, as on a GPU."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import Failure, FailureKind, Measurement, OutputVerdict
from calibration.registry import all_backends
from selector.host.spec import HostSpec, Installation
from selector.planning.calibrate import calibrate
from selector.planning.calibration import Calibration
from selector.selection import select
from tests.lmdeploy.conftest import Checkpoints, Pythons
from tests.lmdeploy.stand_ins import turbomind_stubs

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

WORKLOADS = ("pp16:tg8:b1", "pp48:tg8:b2")
WIDE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}


def host_with(gpu_host: Callable[..., HostSpec], capability: tuple[int, int], backend: str, python: Path) -> HostSpec:
    """A host where `backend` runs in `python`, and everything else in this interpreter."""
    plain, its_own = Installation.detect(Path(sys.executable)), Installation.detect(python)
    host = gpu_host(capability)
    return replace(host, installations={name: its_own if name == backend else plain for name in all_backends()})


@pytest.fixture
def stub_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that looks for TurboMind's shared objects finds the stub ones, as it finds CUDA's on a GPU host."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(turbomind_stubs.build()))


def calibrated(folder: Path, host: HostSpec, backend: str, tmp_path: Path) -> Calibration:
    return calibrate(
        str(folder), workloads=WORKLOADS, backends=[backend], rounds=1, cache=tmp_path / "cache.db", host=host
    )


def test_the_pytorch_engine_is_judged_timed_checked_kept_and_selected(
    gpu_host: Callable[..., HostSpec], lmdeploy_python: Pythons, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    folder = checkpoint("qwen2", dtype="bfloat16")
    host = host_with(gpu_host, (8, 0), "pytorch", lmdeploy_python("torch"))
    done = calibrated(folder, host, "pytorch:eager", tmp_path)
    [outcome] = done.tally.outcomes
    assert isinstance(outcome, Measurement), outcome
    assert outcome.agreement.verdict is OutputVerdict.RIGHT
    assert [c.workload.batch for c in outcome.cells] == [1, 1, 2, 2]
    assert outcome.environment["lmdeploy"] == "0.18.0"
    with Cache.open(tmp_path / "cache.db") as cache:
        assert list(cache.all()) == [outcome]
    chosen = select(str(folder), workload="pp48:tg8:b2", cache=tmp_path / "cache.db", host=host)
    assert (chosen.candidate.label, str(chosen.source), chosen.extrapolated) == ("pytorch:eager", "measured", False)
    assert type(chosen.engine_config()).__name__ == "PytorchEngineConfig"
    assert chosen.command().startswith(f"lmdeploy serve api_server {folder} --backend pytorch")


@pytest.mark.usefixtures("stub_libraries")
def test_turbomind_on_stub_libraries_is_refused_for_its_output(
    gpu_host: Callable[..., HostSpec], lmdeploy_python: Pythons, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    folder = checkpoint("qwen2", dtype="bfloat16", **WIDE)
    host = host_with(gpu_host, (8, 0), "turbomind", lmdeploy_python((8, 0)))
    [outcome] = calibrated(folder, host, "turbomind", tmp_path).tally.outcomes
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.stage) == (FailureKind.WRONG_OUTPUT, "check"), outcome


@pytest.mark.usefixtures("stub_libraries")
def test_turbomind_without_its_libraries_is_a_stored_failure_with_the_cause(
    gpu_host: Callable[..., HostSpec], lmdeploy_python: Pythons, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    folder = checkpoint("qwen2", dtype="bfloat16", **WIDE)
    python = lmdeploy_python(None)
    python.write_text(python.read_text().replace("exec ", "unset LD_LIBRARY_PATH\nexec "))
    host = host_with(gpu_host, (8, 0), "turbomind", python)
    [outcome] = calibrated(folder, host, "turbomind", tmp_path).tally.outcomes
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.stage) == (FailureKind.REFUSED, "load")
    assert "libcublas.so.12" in outcome.message
    with Cache.open(tmp_path / "cache.db") as cache:
        assert list(cache.all()) == [outcome]

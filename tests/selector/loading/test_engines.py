"""Real engines loaded for a selection: in this process, and in a second interpreter that finds the same packages."""

import site
import sys
import venv
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import psutil
import pytest

from calibration.backend import Engine
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from selector.context import DEFAULT
from selector.host.spec import HostSpec, Installation
from selector.loading.elsewhere import EngineElsewhere
from selector.loading.loaded import LoadedEngine
from selector.selection import choose
from tests.engines import tiny_models
from tests.selector.answering import CT2, SDPA

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

PROMPTS = [[11, 12, 13, 14, 15, 16, 17, 18], [21, 22, 23, 24, 25, 26, 27, 28]]
NEW_TOKENS = 6
CPU_ENGINES = [SDPA, CT2, "onnxruntime:fp32", "openvino:fp32-pa", "llamacpp:f32"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write("llama", "published", tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def second_host(tmp_path: Path) -> HostSpec:
    """This machine, where every backend runs in a venv of its own that finds this environment's packages."""
    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    [packages] = place.glob("lib/python3*/site-packages")
    (packages / "this.pth").write_text("\n".join(path for path in site.getsitepackages() if Path(path).is_dir()))
    (place / "share").mkdir()
    (place / "share" / "autobackend").symlink_to(Path(sys.prefix) / "share" / "autobackend")  # llama.cpp's converter
    second = Installation.detect(place / "bin" / "python")
    here = DEFAULT.host()
    return replace(here, installations=dict.fromkeys(here.installations, second))


def streamed(engine: LoadedEngine, prompt: list[int]) -> list[int]:
    return [token for delta in engine.stream(prompt, NEW_TOKENS) for token in delta.tokens]


def streamed_by_turns(engine: LoadedEngine) -> list[list[int]]:
    """Both prompts, a delta of each at a time."""
    streams = [engine.stream(prompt, NEW_TOKENS) for prompt in PROMPTS]
    made: list[list[int]] = [[], []]
    for deltas in zip_longest(*streams):
        for path, delta in zip(made, deltas, strict=True):
            path.extend(delta.tokens if delta else ())
    return made


@pytest.fixture
def paths(model: Path, cache: Cache) -> Iterator[list[list[int]]]:
    """What transformers in float32 continues the prompts by."""
    with choose(model, backend="transformers:sdpa", cache=cache, workload="pp8:tg6:b2").load() as engine:
        yield [list(path) for path in engine.generate(PROMPTS, NEW_TOKENS).tokens]


@pytest.mark.parametrize("label", [*CPU_ENGINES, "openvino:fp32-sdpa"])
def test_here(label: str, model: Path, cache: Cache, paths: list[list[int]]) -> None:
    """One loaded model generates, streams and scores, in any order."""
    selection = choose(model, backend=label, cache=cache, workload="pp8:tg6:b2")
    for _ in range(2):  # what was converted is found the second time
        with selection.load() as engine:
            assert isinstance(engine, Engine)
            assert [list(path) for path in engine.generate(PROMPTS, NEW_TOKENS).tokens] == paths
            assert [streamed(engine, prompt) for prompt in PROMPTS] == paths
            assert streamed_by_turns(engine) == paths
            assert (engine.score(PROMPTS[0], paths[0][:2]) is None) == (label == "openvino:fp32-pa")
            assert streamed(engine, PROMPTS[0]) == paths[0]  # scoring may have dropped what generates
            left = engine.stream(PROMPTS[0], NEW_TOKENS)
            next(left)
            left.close()
            assert [list(path) for path in engine.generate(PROMPTS, NEW_TOKENS).tokens] == paths


@pytest.mark.parametrize("label", CPU_ENGINES)
def test_elsewhere(label: str, model: Path, cache: Cache, second_host: HostSpec, paths: list[list[int]]) -> None:
    selection = choose(model, backend=label, cache=cache, host=second_host, workload="pp8:tg6:b2")
    with selection.load() as engine:
        assert isinstance(engine, EngineElsewhere)
        [worker] = [child for child in psutil.Process().children() if "worker" in " ".join(child.cmdline())]
        assert worker.cmdline()[0] == str(second_host.installations[selection.backend].python) != sys.executable
        made = engine.generate(PROMPTS, NEW_TOKENS)
        assert [list(path) for path in made.tokens] == paths
        assert all(list(times) == sorted(times) for times in made.arrivals)
        assert [streamed(engine, prompt) for prompt in PROMPTS] == paths
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_random_weights_of_a_shape_are_written_there(
    cache: Cache, second_host: HostSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))
    selection = choose("shape:smollm2-135m", backend=SDPA, cache=cache, host=second_host, workload="pp8:tg2:b1")
    with selection.load() as engine:
        [path] = engine.generate(PROMPTS[:1], 2).tokens
        assert len(path) == 2
    assert [artifact.kind for artifact in ArtifactStore().list()] == ["checkpoint"]

"""autobackend.pipeline: lmdeploy.pipeline with the engine that is chosen, on the stand-ins for a GPU."""

import inspect
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import autobackend
from calibration.cache.cache import Cache
from calibration.errors import BackendError, IllegalBackend, ModelError, NoLegalBackend, UsageError
from calibration.measurement import Candidate
from calibration.registry import all_backends
from selector.demand.demand import Demand
from selector.emit.targets import find_target
from selector.evidence.identity import identity
from selector.host.spec import HostSpec, Installation
from selector.model.spec import ModelSpec
from selector.selection import choose
from tests.lmdeploy.conftest import Checkpoints, Pythons
from tests.lmdeploy.jobs import lmdeploy_arguments
from tests.lmdeploy.stand_ins import turbomind_stubs
from tests.selector.launches import measurement

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).resolve().parents[2]
WIDE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}

Host = Callable[..., HostSpec]


@pytest.fixture(scope="module")
def standins() -> None:
    from tests.lmdeploy.stand_ins import lmdeploy_cpu

    lmdeploy_cpu.install("torch")


@pytest.fixture
def stub_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that looks for TurboMind's shared objects finds the stub ones."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(turbomind_stubs.build()))


@pytest.fixture
def measured(cache: Cache, gpu_host: Host) -> Callable[[Path, str, float], HostSpec]:
    """measured(folder, label, slow): a host with an A100 where that candidate was timed for that model."""

    def add(folder: Path, label: str, slow: float) -> HostSpec:
        host = gpu_host((8, 0))
        cache.add(measurement(label, identity(ModelSpec.read(folder), host), host, slow=slow, model=str(folder)))
        return host

    return add


@pytest.fixture
def piped(standins: None) -> Iterator[Callable[..., Any]]:
    """autobackend.pipeline, whose pipelines are closed after the test."""
    pipes: list[Any] = []

    def make(*words: Any, **more: Any) -> Any:
        pipes.append(autobackend.pipeline(*words, **more))
        return pipes[-1]

    yield make
    for pipe in pipes:
        pipe.close()


def test_the_engine_that_was_measured_as_the_fastest_answers(
    piped: Callable[..., Any], checkpoint: Checkpoints, measured: Callable[..., HostSpec], cache: Cache
) -> None:
    import lmdeploy

    folder = checkpoint("qwen2")
    measured(folder, "pytorch:graph", 2.0)
    host = measured(folder, "pytorch:eager", 1.0)
    pipe = piped(folder, cache=cache, host=host)
    assert type(pipe) is lmdeploy.Pipeline
    assert type(pipe.backend_config) is lmdeploy.PytorchEngineConfig
    assert pipe.backend_config.eager_mode is True
    [answer] = pipe(["hello"], gen_config=lmdeploy.GenerationConfig(max_new_tokens=4, ignore_eos=True))
    assert answer.generate_token_len == 4


def test_a_config_that_is_given_is_used_as_it_is(
    piped: Callable[..., Any], checkpoint: Checkpoints, measured: Callable[..., HostSpec], cache: Cache
) -> None:
    import lmdeploy

    folder = checkpoint("qwen2")
    host = measured(folder, "pytorch:eager", 1.0)
    given = lmdeploy.PytorchEngineConfig(eager_mode=False, session_len=128, num_gpu_blocks=32)
    pipe = piped(str(folder), given, cache=cache, host=host)
    assert (pipe.backend_config.eager_mode, pipe.backend_config.session_len) == (False, 128)


def test_turbomind_that_would_be_replaced_in_silence_is_an_error(
    standins: None, checkpoint: Checkpoints, gpu_host: Host, cache: Cache
) -> None:
    """LMDeploy itself would log a warning and load its other engine: here are no CUDA libraries."""
    import lmdeploy

    folder = checkpoint("qwen2")
    with pytest.raises(BackendError) as error:
        autobackend.pipeline(folder, lmdeploy.TurbomindEngineConfig(), cache=cache, host=gpu_host((8, 0)))
    assert error.value.message.startswith(f"TurboMind cannot run {folder} here: its library cannot be loaded: lib")


def test_no_legal_engine_is_an_error_with_every_reason(checkpoint: Checkpoints, gpu_host: Host, cache: Cache) -> None:
    folder = checkpoint("qwen2", dtype="float16", quant="bitsandbytes")
    with pytest.raises(IllegalBackend) as error:
        autobackend.pipeline(folder, cache=cache, host=gpu_host((8, 0)), demand=Demand(backends=("pytorch",)))
    assert error.value.message.startswith(f"pytorch cannot run {folder}\n  needs ")
    with pytest.raises(UsageError, match="LMDeploy runs turbomind and pytorch; found --backend vllm"):
        autobackend.pipeline(folder, cache=cache, host=gpu_host((8, 0)), demand=Demand(backends=("vllm",)))


def test_a_shape_has_no_text() -> None:
    with pytest.raises(ModelError, match="shape:gpt2 has no tokenizer, which a pipeline needs"):
        autobackend.pipeline("shape:gpt2")


def test_speculative_decoding_is_the_pytorch_engines(
    standins: None, checkpoint: Checkpoints, gpu_host: Host, cache: Cache
) -> None:
    """TurboMind would log that it does not do it."""
    folder = checkpoint("gptoss", **WIDE)
    with pytest.raises(IllegalBackend) as error:
        autobackend.pipeline(
            folder,
            cache=cache,
            host=gpu_host((8, 0)),
            speculative_config=object(),
            demand=Demand(backends=("pytorch",)),
        )
    assert "turbomind" not in error.value.message
    with pytest.raises(UsageError, match="LMDeploy runs pytorch; found --backend turbomind"):
        autobackend.pipeline(
            folder,
            cache=cache,
            host=gpu_host((8, 0)),
            speculative_config=object(),
            demand=Demand(backends=("turbomind",)),
        )


TURBOMIND = """
import json, sys
sys.path.insert(0, {root!r})
import autobackend
from pathlib import Path
from selector.host.spec import HostSpec
from tests.lmdeploy.conftest import one_gpu
import lmdeploy
pipe = autobackend.pipeline({folder!r}, {given}, host=one_gpu((8, 0), Path(sys.executable)), cache={cache!r})
[answer] = pipe(["hello"], gen_config=lmdeploy.GenerationConfig(max_new_tokens=4, ignore_eos=True))
print("ANSWER", json.dumps([type(pipe.backend_config).__name__, answer.token_ids]), flush=True)
import os
os._exit(0)
"""


@pytest.mark.usefixtures("stub_libraries")
@pytest.mark.parametrize("given", ["None", "lmdeploy.TurbomindEngineConfig(session_len=256, max_batch_size=2)"])
def test_turbomind_runs_where_it_can(
    given: str, lmdeploy_python: Pythons, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    """On the stub libraries; it is the first of the static order, and what it answers there means nothing."""
    folder = checkpoint("qwen2", dtype="bfloat16", **WIDE)
    program = TURBOMIND.format(root=str(ROOT), folder=str(folder), given=given, cache=str(tmp_path / "cache.db"))
    ran = subprocess.run(
        [lmdeploy_python((8, 0)), "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, ran.stderr[-3000:]
    assert json.loads(lines[0].removeprefix("ANSWER ")) == ["TurbomindEngineConfig", [turbomind_stubs.TOKEN] * 4]


@pytest.mark.parametrize(("label", "eager"), [("turbomind:default", False), ("pytorch:eager", True)])
def test_lmdeploys_own_parser_takes_what_is_emitted(
    label: str, eager: bool, checkpoint: Checkpoints, measured: Callable[..., HostSpec], cache: Cache
) -> None:
    folder = checkpoint("qwen2", **WIDE)
    selection = choose(folder, backend="pytorch", cache=cache, host=measured(folder, label, 1.0))
    backend, _, variant = label.partition(":")
    selection = replace(selection, candidate=Candidate(backend=backend, variant=variant))
    text = find_target("lmdeploy").write(selection).text
    taken = lmdeploy_arguments(text.strip())
    assert (taken.backend, taken.model_path, taken.eager_mode) == (backend, str(folder), eager)


def test_it_is_judged_in_the_interpreter_that_will_run_it(
    piped: Callable[..., Any], checkpoint: Checkpoints, measured: Callable[..., HostSpec], cache: Cache
) -> None:
    """Also where a calibration runs LMDeploy in another one, whose versions may differ."""
    folder = checkpoint("qwen2")
    here = measured(folder, "pytorch:eager", 1.0)
    other = Installation(python=Path("/elsewhere/bin/python"), versions={"lmdeploy": "0.9.0"}, site_packages=())
    there = replace(here, installations=dict.fromkeys(here.installations, other))
    with pytest.raises(NoLegalBackend, match=r"pytorch: .*; lmdeploy 0\.9\.0 is installed, torch is not installed"):
        choose(folder, cache=cache, host=there)
    assert piped(folder, cache=cache, host=there).backend_config.eager_mode is True


def test_its_arguments_are_lmdeploys_and_what_the_choice_is_made_by() -> None:
    import lmdeploy

    ours = dict(inspect.signature(autobackend.pipeline).parameters)
    extra = [ours.pop(name) for name in ("demand", "cache", "host")]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in extra)
    theirs = inspect.signature(lmdeploy.pipeline).parameters
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


def test_all_engines_of_lmdeploys_are_meant() -> None:
    named = {name for name, backend in all_backends().items() if backend.facts.package == "lmdeploy"}
    assert named == {"turbomind", "pytorch"} == set(find_target("lmdeploy").backends)

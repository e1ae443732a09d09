"""LMDeploy's PyTorch engine, its own scheduler, paging and model code, driven by our adapter on CPU stand-ins."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from calibration.backend import Engine
from calibration.backends.pytorch import PyTorch
from calibration.engine.server import ServerPlace
from calibration.measurement import FailureKind
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker
from calibration.worker.prompts import prompts
from tests.lmdeploy.conftest import Checkpoints, Pythons
from tests.lmdeploy.jobs import a_job, deployed, lmdeploy_arguments, open_request, own_server_arguments

# Warnings of an engine are not ours.
pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

VOCAB = 320
NEW = 12
LENGTHS = (5, 70, 130, 64)
"""A page of the KV cache holds 64 tokens."""

Load = Callable[..., Engine]


@pytest.fixture(scope="module")
def standins() -> None:
    from tests.lmdeploy.stand_ins import lmdeploy_cpu

    lmdeploy_cpu.install("torch")


@pytest.fixture
def load(standins: None, checkpoint: Checkpoints) -> Iterator[Load]:
    """load(kind, variant=..., **job) -> a loaded engine, closed after the test."""
    engines: list[Engine] = []

    def make(kind: str, variant: str = "graph", **changes: Any) -> Engine:
        backend = PyTorch()
        engines.append(backend.load(a_job(backend, checkpoint(kind), variant, **changes)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


class Reference:
    """The same checkpoint in transformers, float32."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def greedy(self, prompt: list[int]) -> tuple[int, ...]:
        with self._torch.no_grad():
            out = self._model.generate(
                self._torch.tensor([prompt]),
                attention_mask=self._torch.ones(1, len(prompt), dtype=self._torch.long),
                max_new_tokens=NEW,
                min_new_tokens=NEW,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        return tuple(out[0, len(prompt) :].tolist())

    def rows(self, prompt: list[int], continuation: tuple[int, ...]) -> Any:
        """Log-probabilities [len(continuation) + 1, vocab]."""
        with self._torch.no_grad():
            logits = self._model(self._torch.tensor([[*prompt, *continuation]])).logits[0]
        return logits.log_softmax(-1)[len(prompt) - 1 :]


def asked(length: int = 70, count: int = 1) -> list[list[int]]:
    return prompts(f"test-{length}", VOCAB, length, count)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "qwen2moe", "qwen3moe", "mixtral"])
def test_answers_as_transformers_does(kind: str, load: Load, checkpoint: Checkpoints) -> None:
    import torch

    engine, reference = load(kind), Reference(checkpoint(kind))
    for length in LENGTHS:
        batch = asked(length, 2)
        assert engine.generate(batch, NEW).tokens == tuple(reference.greedy(prompt) for prompt in batch)
    prompt, continuation = asked(70)[0], (17, 250, 33)
    rows = engine.score(prompt, continuation)
    assert rows is not None
    torch.testing.assert_close(torch.tensor(rows), reference.rows(prompt, continuation), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "off"), [("float16", 0.05), ("bfloat16", 0.5)])
def test_computes_in_the_checkpoints_dtype(dtype: str, off: float, load: Load, checkpoint: Checkpoints) -> None:
    import torch

    backend = PyTorch()
    folder = checkpoint("qwen2", dtype=dtype)
    engine = backend.load(a_job(backend, folder, "graph", dtype=dtype))
    rows = engine.score(asked()[0], (17,))
    engine.close()
    assert rows is not None
    found = torch.tensor(rows) - Reference(folder).rows(asked()[0], (17,))
    assert 1e-5 < found.abs().max().item() < off


def test_streams_and_batches(load: Load) -> None:
    engine = load("qwen2", "eager")
    together = engine.generate([asked(70)[0], asked(40)[0], asked(65)[0]], NEW)
    for row in together.arrivals:
        assert len(row) == NEW
        assert list(row) == sorted(row)
        assert 0 < row[0] < row[NEW // 2] < row[-1]
    alone = [engine.generate([prompt], NEW).tokens[0] for prompt in (asked(70)[0], asked(40)[0], asked(65)[0])]
    assert list(together.tokens) == alone


def test_more_prompts_than_slots_wait_their_turn(load: Load) -> None:
    engine = load("qwen2", max_batch=2)
    assert len(set(engine.generate(asked(30) * 5, 4).tokens)) == 1


def test_end_of_text_does_not_end_a_stream(checkpoint: Checkpoints, tmp_path: Path, standins: None) -> None:
    folder = shutil.copytree(checkpoint("qwen2"), tmp_path / "model")
    path = folder / "generation_config.json"
    usual = Reference(folder).greedy(asked()[0])
    path.write_text(f'{{"eos_token_id": {usual[2]}}}')
    backend = PyTorch()
    engine = backend.load(a_job(backend, folder, "graph"))
    made = engine.generate(asked(), NEW)
    engine.close()
    assert made.tokens == (usual,)


def test_a_prompt_that_is_too_long_is_an_error(load: Load) -> None:
    engine = load("qwen2", max_context_tokens=64)
    with pytest.raises(RuntimeError) as error:
        engine.generate(asked(400), 4)
    assert str(error.value) == (
        "the PyTorch engine ended with INPUT_LENGTH_ERROR after 0 of 4 tokens and 0 rows of scores"
        " (prompt of 400 tokens)"
    )
    assert len(engine.generate(asked(30), 4).tokens[0]) == 4


def test_a_session_without_room_is_an_error_and_no_short_answer(load: Load) -> None:
    engine = load("qwen2", max_context_tokens=64)
    with pytest.raises(RuntimeError, match=r"ended with FINISH after \d+ of 40 tokens"):
        engine.generate(asked(100), 40)


def test_the_cause_of_a_dead_loop_is_told(load: Load) -> None:
    engine = load("qwen2")
    with pytest.raises(RuntimeError, match="ENGINE_STOP_ERROR after 0 of 4 tokens") as error:
        engine.generate([[VOCAB + 1000] * 8], 4)
    assert isinstance(error.value.__cause__, IndexError)


def test_an_empty_prompt_never_reaches_the_engine(load: Load) -> None:
    engine = load("qwen2")
    with pytest.raises(ValueError, match="needs a prompt"):
        engine.generate([[]], 4)
    assert len(engine.generate(asked(30), 4).tokens[0]) == 4


def test_closing_leaves_no_task_thread_or_process(load: Load, checkpoint: Checkpoints) -> None:
    backend = PyTorch()
    load("qwen2").generate(asked(), 2)
    before = {thread.name for thread in threading.enumerate()}
    engine = backend.load(a_job(backend, checkpoint("qwen2"), "eager"))
    engine.generate(asked(), 4)
    engine.close()
    assert {thread.name for thread in threading.enumerate()} <= before
    assert psutil.Process().children(recursive=True) == []
    assert engine._loop.is_closed()  # type: ignore[attr-defined]


def test_an_unknown_architecture_is_refused_by_name(checkpoint: Checkpoints, tmp_path: Path, standins: None) -> None:
    folder = shutil.copytree(checkpoint("qwen2"), tmp_path / "model")
    path = folder / "config.json"
    path.write_text(path.read_text().replace("Qwen2ForCausalLM", "Qwen9ForCausalLM"))
    backend = PyTorch()
    with pytest.raises(RuntimeError, match=r"Can not found rewrite for architectures: .*Qwen9ForCausalLM"):
        backend.load(a_job(backend, folder, "graph"))


@pytest.mark.parametrize(
    ("variant", "eager", "options"),
    [
        ("graph", False, "--max-batch-size 1 --server-port 23333"),
        ("eager", True, "--max-batch-size 1 --eager-mode --server-port 23333"),
    ],
)
def test_serving(variant: str, eager: bool, options: str) -> None:
    from lmdeploy import PytorchEngineConfig

    backend = PyTorch()
    chosen = backend.variant(variant)
    one = deployed("my model", tensor_parallel=1, trust_remote_code=False)
    assert backend.engine_config(chosen, one) == PytorchEngineConfig(dtype="auto", eager_mode=eager)
    two = deployed("my model", tensor_parallel=2, trust_remote_code=False)
    assert backend.engine_config(chosen, two) == PytorchEngineConfig(dtype="auto", eager_mode=eager, tp=2)
    command = backend.command(chosen, deployed("my model", tensor_parallel=1, trust_remote_code=False))
    assert command == f"lmdeploy serve api_server 'my model' --backend pytorch --tp 1 {options}"
    taken = lmdeploy_arguments(command)
    assert (taken.backend, taken.eager_mode, taken.model_path) == ("pytorch", eager, "my model")
    assert (taken.tp, taken.trust_remote_code) == (1, False)
    assert (taken.max_batch_size, taken.server_port) == (1, 23333)
    taken = lmdeploy_arguments(backend.command(chosen, deployed("m", tensor_parallel=2, trust_remote_code=True)))
    assert (taken.eager_mode, taken.tp, taken.trust_remote_code) == (eager, 2, True)


def test_its_own_server() -> None:
    """With the settings of `load`, read by LMDeploy's own command line."""
    backend, place = PyTorch(), ServerPlace(port=4711, key="k", served_name="smol", slots=4, context_tokens=256)
    one = deployed("my model", tensor_parallel=2, trust_remote_code=True)
    server = backend.own_server(backend.variant("eager"), one, place)
    taken = own_server_arguments(server)
    assert (taken.backend, taken.eager_mode, taken.model_path, taken.device) == ("pytorch", True, "my model", "cuda")
    assert (taken.server_name, taken.server_port, taken.model_name, taken.api_keys) == (
        "127.0.0.1",
        4711,
        "smol",
        ["k"],
    )
    assert (taken.tp, taken.trust_remote_code, taken.max_batch_size, taken.session_len) == (2, True, 4, 320)
    assert (taken.num_gpu_blocks, taken.generation_config) == (2 * 4 * 6, "lmdeploy")
    assert (taken.disable_metrics, taken.enable_prefix_caching, taken.dtype) == (True, False, "auto")
    assert (server.takes_token_ids, server.variables["LMDEPLOY_ENABLE_CHECK_ENV"]) == (False, "0")
    keyless = backend.own_server(backend.variant("graph"), one, replace(place, key=""))
    assert (own_server_arguments(keyless).api_keys, own_server_arguments(keyless).eager_mode) == (None, False)


def test_in_a_worker(checkpoint: Checkpoints, lmdeploy_python: Pythons, tmp_path: Path) -> None:
    backend = PyTorch()
    fixed = asked(24, 2)
    with Worker(lmdeploy_python("torch"), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:
        request = open_request(backend, checkpoint("qwen2", dtype="float16"), backend.variant("graph"), dtype="float16")
        assert isinstance(worker.ask("open", timeout_s=60, **request), Reply)
        loaded = worker.ask("load", timeout_s=120)
        assert isinstance(loaded, Reply), worker.log_tail()
        answered = worker.ask(
            "answer",
            timeout_s=60,
            prompts=fixed,
            groups=[[0], [1, 0]],
            new_tokens=4,
            continuations=None,
            rows_file=str(tmp_path / "rows"),
        )
        assert isinstance(answered, Reply), worker.log_tail()
        alone, together = answered.fields["tokens"]
        assert answered.fields["rows"] == [4, VOCAB]
        assert together[1] == alone[0]
        sampled = worker.ask("sample", timeout_s=60, seed="1", prompt_tokens=64, output_tokens=8, batch=2)
        assert isinstance(sampled, Reply), sampled
        assert sampled.fields["ttft_s"] > 0
        assert sampled.fields["tpot_s"] > 0
        assert isinstance(worker.ask("close", timeout_s=60), Reply)


def test_without_a_gpu_a_worker_says_so(checkpoint: Checkpoints, lmdeploy_python: Pythons, tmp_path: Path) -> None:
    backend = PyTorch()
    with Worker(lmdeploy_python(None), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:
        request = open_request(backend, checkpoint("qwen2"), backend.variant("graph"))
        assert isinstance(worker.ask("open", timeout_s=60, **request), Reply)
        refused = worker.ask("load", timeout_s=120)
    assert isinstance(refused, Trouble)
    assert refused.kind is FailureKind.REFUSED
    assert "Torch not compiled with CUDA enabled" in refused.message or "NVIDIA driver" in refused.message

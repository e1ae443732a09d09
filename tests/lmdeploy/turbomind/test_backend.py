"""TurboMind's real C++ library, driven by our adapter on stub CUDA libraries: what it computes means nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.backends.turbomind.adapter import TurboMind
from calibration.check.agreement import GROUPS, NEW_TOKENS, Answers, compare, fixed_prompts
from calibration.engine.server import ServerPlace
from calibration.measurement import FailureKind, OutputVerdict
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.supervisor import Worker
from tests.lmdeploy import tiny_checkpoints
from tests.lmdeploy.conftest import Checkpoints, Pythons
from tests.lmdeploy.jobs import deployed, lmdeploy_arguments, open_request, own_server_arguments

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

VOCAB = 320
TOKEN = 5
"""What the imitated sampling kernel answers (stubs/cudart.c)."""


@pytest.fixture
def worker(lmdeploy_python: Pythons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    # LMDeploy in this process, in another test, sets the level of its own for the processes that follow.
    monkeypatch.setenv("TM_LOG_LEVEL", "INFO")
    with Worker(lmdeploy_python((8, 0)), log=tmp_path / "log", memory_limit_bytes=8 << 30) as started:
        yield started


def loaded(worker: Worker, folder: Path) -> Reply | Trouble:
    backend = TurboMind()
    request = open_request(backend, folder, backend.variants[0], dtype="bfloat16")
    assert isinstance(worker.ask("open", timeout_s=60, **request), Reply)
    return worker.ask("load", timeout_s=120)


def answers(worker: Worker, rows_file: Path) -> Answers:
    asked = fixed_prompts(VOCAB, 256)
    reply = worker.ask(
        "answer",
        timeout_s=60,
        prompts=asked,
        groups=[list(group) for group in GROUPS],
        new_tokens=NEW_TOKENS,
        continuations=None,
        rows_file=str(rows_file),
    )
    assert isinstance(reply, Reply), worker.log_tail()
    tokens = tuple(tuple(tuple(path) for path in group) for group in reply.fields["tokens"])
    length, width = reply.fields["rows"]
    return Answers(tokens=tokens, rows_file=rows_file, row_shape=(length, width))


def test_loads_streams_batches_and_closes(worker: Worker, checkpoint: Checkpoints, tmp_path: Path) -> None:
    ready = loaded(worker, checkpoint("qwen2", **tiny_checkpoints.WIDE))
    assert isinstance(ready, Reply), worker.log_tail()
    for batch in (1, 4):
        sampled = worker.ask("sample", timeout_s=60, seed="1", prompt_tokens=64, output_tokens=128, batch=batch)
        assert isinstance(sampled, Reply), sampled
        assert sampled.fields["ttft_s"] > 0
        # On a busy machine the stub, which computes nothing, is done before its first token is fetched.
        assert sampled.fields["tpot_s"] is None or sampled.fields["tpot_s"] > 0
    log = (tmp_path / "log").read_text()
    assert "Warm-up finished" in log
    assert "Warm-up for" not in log  # "... 8192 tokens failed": a session too short for it to tune its GEMMs
    assert isinstance(worker.ask("close", timeout_s=60), Reply)


def test_its_output_here_is_wrong_and_found_to_be(worker: Worker, checkpoint: Checkpoints, tmp_path: Path) -> None:
    assert isinstance(loaded(worker, checkpoint("qwen2", **tiny_checkpoints.WIDE)), Reply)
    found = answers(worker, tmp_path / "rows")
    assert found.tokens == tuple(tuple((TOKEN,) * NEW_TOKENS for _ in group) for group in GROUPS)
    assert found.row_shape == (NEW_TOKENS, VOCAB)
    reference = reference_answers(checkpoint("qwen2", **tiny_checkpoints.WIDE), tmp_path / "reference")
    assert compare(reference, found, "16-bit").verdict is OutputVerdict.WRONG


def reference_answers(folder: Path, rows_file: Path) -> Answers:
    """transformers in float32, along its own greedy paths."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    paths, rows = [], []
    for prompt in fixed_prompts(VOCAB, 256):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(NEW_TOKENS):
                rows.append(model(torch.tensor([ids])).logits[0, -1])
                ids.append(int(rows[-1].argmax()))
        paths.append(tuple(ids[len(prompt) :]))
    rows_file.write_bytes(torch.stack(rows).numpy().tobytes())
    tokens = tuple(tuple(paths[i] for i in group) for group in GROUPS)
    return Answers(tokens=tokens, rows_file=rows_file, row_shape=(NEW_TOKENS, VOCAB))


def test_an_abort_in_its_code_ends_the_worker_alone(worker: Worker, checkpoint: Checkpoints) -> None:
    # The engine starts; the first request finds no attention kernel for head_dim 96.
    shape = {**tiny_checkpoints.WIDE, "hidden_size": 384, "intermediate_size": 384, "head_dim": 96}
    assert isinstance(loaded(worker, checkpoint("llama", **shape)), Reply), worker.log_tail()
    ended = worker.ask("sample", timeout_s=60, seed="1", prompt_tokens=16, output_tokens=4, batch=1)
    assert isinstance(ended, Trouble)
    assert ended.kind is FailureKind.CRASHED
    assert "SIGABRT" in ended.message


def test_a_session_without_room_is_an_error(worker: Worker, checkpoint: Checkpoints) -> None:
    assert isinstance(loaded(worker, checkpoint("qwen2", **tiny_checkpoints.WIDE)), Reply)
    ended = worker.ask("sample", timeout_s=60, seed="1", prompt_tokens=9000, output_tokens=4, batch=1)
    assert isinstance(ended, Trouble)
    assert ended.message == (
        "RuntimeError: TurboMind ended with INPUT_LENGTH_ERROR after 0 of 4 tokens and 0 rows of scores"
        " (prompt of 9000 tokens)"
    )


def test_a_format_it_does_not_take_is_refused_with_its_own_words(worker: Worker, checkpoint: Checkpoints) -> None:
    refused = loaded(worker, checkpoint("qwen2", dtype="float16", quant="awq-g64", **tiny_checkpoints.WIDE))
    assert isinstance(refused, Trouble)
    assert refused.kind is FailureKind.REFUSED
    assert refused.message == (
        'ValueError: Unsupported group_size=64 for model_format="awq". Supported group_size values: 128.'
    )


def test_without_its_libraries_the_true_cause_is_told(
    lmdeploy_python: Pythons, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    with Worker(lmdeploy_python(None), log=tmp_path / "log", memory_limit_bytes=8 << 30) as plain:
        refused = loaded(plain, checkpoint("qwen2", **tiny_checkpoints.WIDE))
    assert isinstance(refused, Trouble)
    assert refused.kind is FailureKind.REFUSED
    assert refused.message == (
        "RuntimeError: TurboMind's library cannot be loaded: libcublas.so.12: cannot open shared object file:"
        " No such file or directory"
    )


def test_serving() -> None:
    from lmdeploy import TurbomindEngineConfig

    backend = TurboMind()
    variant = backend.variants[0]
    one = deployed("my model", tensor_parallel=1, trust_remote_code=False)
    assert backend.engine_config(variant, one) == TurbomindEngineConfig(dtype="auto")
    two = deployed("my model", tensor_parallel=2, trust_remote_code=False)
    assert backend.engine_config(variant, two) == TurbomindEngineConfig(dtype="auto", tp=2)
    command = backend.command(variant, deployed("my model", tensor_parallel=1, trust_remote_code=False))
    assert command == (
        "lmdeploy serve api_server 'my model' --backend turbomind --tp 1 --max-batch-size 1 --server-port 23333"
    )
    taken = lmdeploy_arguments(command)
    assert (taken.backend, taken.model_path, taken.tp, taken.trust_remote_code) == ("turbomind", "my model", 1, False)
    taken = lmdeploy_arguments(backend.command(variant, deployed("m", tensor_parallel=2, trust_remote_code=True)))
    assert (taken.tp, taken.trust_remote_code) == (2, True)


def test_its_own_server() -> None:
    """With the settings of `load`, read by LMDeploy's own command line."""
    backend, place = TurboMind(), ServerPlace(port=4711, key="k", served_name="smol", slots=4, context_tokens=256)
    one = deployed("my model", tensor_parallel=2, trust_remote_code=True)
    server = backend.own_server(backend.variants[0], one, place)
    taken = own_server_arguments(server)
    assert (taken.backend, taken.model_path) == ("turbomind", "my model")
    assert (taken.server_name, taken.server_port, taken.model_name, taken.api_keys) == (
        "127.0.0.1",
        4711,
        "smol",
        ["k"],
    )
    assert (taken.tp, taken.trust_remote_code, taken.max_batch_size) == (2, True, 4)
    # As long as what its warm-up tunes for.
    assert (taken.session_len, taken.generation_config) == (8192 + 4 + 64, "lmdeploy")
    assert (taken.disable_metrics, taken.enable_prefix_caching, taken.dtype) == (True, False, "auto")
    assert not server.takes_token_ids

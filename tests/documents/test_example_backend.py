"""The example of docs/backends.md is a complete backend."""

import inspect
import json
import queue
import re
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Backend, Engine
from calibration.engine.streams import Delta, Finish, Request
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.serving import ServingWorker
from calibration.supervision.supervisor import Worker
from tests.documents.generated import ROOT

EXAMPLE = re.compile(r"<!-- backend -->\n```python\n(.*?)```\n", re.DOTALL)
TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
VARIANT = {"name": "sdpa", "devices": [], "only_without": []}
JOB = {
    "artifact_dir": None, "dtype": "float32", "vocab_size": 64, "device": "cpu", "threads": 1,
    "max_context_tokens": 32, "max_batch": 2, "variant": VARIANT,
}  # fmt: skip


def example() -> str:
    match = EXAMPLE.search((ROOT / "docs/backends.md").read_text())
    assert match
    return match[1]


def test_example_has_the_verbs_of_a_backend(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(example(), names)
    for ours, theirs in ((names["Generate"], Backend), (names["GenerateEngine"], Engine)):
        for verb in set(vars(theirs)) & {name for name in vars(ours) if not name.startswith("_")}:
            if callable(getattr(theirs, verb)):
                assert list(inspect.signature(getattr(ours, verb)).parameters) == list(
                    inspect.signature(getattr(theirs, verb)).parameters
                ), verb


@pytest.mark.engine
def test_example_backend_runs(tmp_path: Path) -> None:
    """In a worker, from its file, as a backend of somebody else's package does."""
    source, model = tmp_path / "generate_backend.py", tmp_path / "model"
    source.write_text(example())
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    job = {**JOB, "model_dir": str(model)}
    prompts = [[5, 6, 7, 8], [9, 10, 11, 12]]
    with Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:

        def ask(verb: str, **fields: Any) -> Mapping[str, Any]:
            reply = worker.ask(verb, timeout_s=120, **fields)
            assert isinstance(reply, Reply), (reply, (tmp_path / "log").read_text())
            return reply.fields

        ask("checkpoint", config_dir=str(tmp_path), destination=str(model), seed=0)
        ask("open", backend="generate", source=str(source), job=job)
        ask("load")
        answer = ask(
            "answer",
            prompts=prompts,
            groups=[[0, 1]],
            new_tokens=4,
            continuations=None,
            rows_file=str(tmp_path / "rows"),
        )
        sample = ask("sample", seed="", prompt_tokens=4, output_tokens=4, batch=2)
    scores = array("f", (tmp_path / "rows").read_bytes())
    rows = [scores[i : i + 64] for i in range(0, len(scores), 64)]
    likeliest = [row.index(max(row)) for row in rows]
    assert answer["rows"] == [4, 64]
    assert answer["tokens"] == [[likeliest[:4], likeliest[4:]]]
    assert sample["ttft_s"] > 0 and sample["tpot_s"] > 0


@pytest.mark.engine
def test_example_backend_serves(tmp_path: Path) -> None:
    """It can only generate, so requests are answered one after another, and one that asks for more is refused."""
    source = tmp_path / "generate_backend.py"
    source.write_text(example())
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    job = {**JOB, "model_dir": str(tmp_path / "model")}
    prompts = [(5, 6, 7, 8), (9, 10, 11), (12,)]
    deltas: queue.Queue[Delta] = queue.Queue()
    with Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:

        def ask(verb: str, **fields: Any) -> Mapping[str, Any]:
            reply = worker.ask(verb, timeout_s=120, **fields)
            assert isinstance(reply, Reply), (reply, (tmp_path / "log").read_text())
            return reply.fields

        ask("checkpoint", config_dir=str(tmp_path), destination=str(tmp_path / "model"), seed=0)
        ask("open", backend="generate", source=str(source), job=job)
        ask("load")
        expected = [ask_alone(ask, prompt, tmp_path / "rows") for prompt in prompts]
        loaded = ask("load_streams")
        assert (loaded["abilities"], loaded["batching"]) == ([], "none")
        ended: queue.Queue[Trouble] = queue.Queue()
        serving = ServingWorker(worker, on_deltas=lambda told: [*map(deltas.put, told)].clear(), on_end=ended.put)
        assert serving.start() is None
        for number, prompt in enumerate(prompts):
            serving.add(Request(id=str(number), prompt=prompt, max_tokens=4))
        serving.add(Request(id="3", prompt=prompts[0], max_tokens=4, end_tokens=frozenset({expected[0][1]})))
        serving.add(Request(id="4", prompt=prompts[0], max_tokens=4, temperature=1.0))
        told = {delta.id: delta for delta in (deltas.get(timeout=60) for _ in range(5))}
        serving.close()
        ended.get(timeout=60)
        serving.join(60)
    assert [told[str(n)].tokens for n in range(3)] == expected
    assert (told["3"].tokens, told["3"].finish) == (expected[0][: expected[0].index(expected[0][1]) + 1], Finish.STOP)
    assert (told["4"].finish, "temperature" in told["4"].message) == (Finish.ERROR, True)


def ask_alone(ask: Callable[..., Mapping[str, Any]], prompt: Sequence[int], rows: Path) -> tuple[int, ...]:
    """Four tokens that a loaded engine generates."""
    answer = ask(
        "answer", prompts=[list(prompt)], groups=[[0]], new_tokens=4, continuations=None, rows_file=str(rows)
    )  # fmt: skip
    return tuple(answer["tokens"][0][0])

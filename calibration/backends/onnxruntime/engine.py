"""A loaded graph of ONNX Runtime GenAI: whole batches are generated and scored."""

import json
import time
from collections.abc import Sequence
from typing import Any

from calibration.backend import Engine, Generation, Job, Rows


class Graph:
    """onnxruntime_genai.Model, which makes generators.

    Args:
        job: its `artifact_dir` holds the graph.
    """

    def __init__(self, job: Job) -> None:
        import onnxruntime_genai

        assert job.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
        self.end = job.vocab_size - 1
        """The token at which the engine ends a sequence: it needs one of the vocabulary.

        Most vocabularies are padded at their end, so hardly a path meets the last.
        """
        config = onnxruntime_genai.Config(str(job.artifact_dir))
        config.overlay(json.dumps(_overlay(job, self.end)))
        self.model = onnxruntime_genai.Model(config)
        written = json.loads((job.artifact_dir / "genai_config.json").read_text(encoding="utf-8"))
        # A graph with a sliding window refuses less: "KV cache capacity must be at least local_window_size".
        self._least_length = int((written["model"]["decoder"].get("sliding_window") or {}).get("window_size", 0))

    def generator(self, *, length: int, batch: int = 1, forbid_end: bool = False) -> Any:
        """An onnxruntime_genai.Generator.

        Args:
            length: of the sequences, prompt and new tokens; their cache is allocated at once.
            batch: sequences.
            forbid_end: never choose `end`.
        """
        import onnxruntime_genai

        capacity = max(length, self._least_length)
        wanted = onnxruntime_genai.GeneratorParams(self.model)
        wanted.set_search_options(
            batch_size=batch, max_length=capacity, min_length=capacity if forbid_end else 0, do_sample=False
        )
        return onnxruntime_genai.Generator(self.model, wanted)


class GraphEngine(Engine):
    """onnxruntime_genai.Generator, one for each call."""

    scores_its_steps = True

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """One batch.

        Should a path meet the token that ends sequences, the batch is timed anew with that token forbidden, and what
        comes after it is found step by step.
        """
        tokens, times = self._timed(prompts, new_tokens, forbid_end=False)
        met = [self.graph.end in path for path in tokens]
        if any(met):
            _, times = self._timed(prompts, new_tokens, forbid_end=True)
            tokens = [
                self._greedy(prompt, new_tokens) if ended else path
                for prompt, path, ended in zip(prompts, tokens, met, strict=True)
            ]
        return Generation(tokens=tuple(tuple(path) for path in tokens), arrivals=(tuple(times),) * len(prompts))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        generator = self.graph.generator(length=len(prompt) + len(continuation) + 1)
        return [self._next_scores(generator, given) for given in ([*prompt], *([token] for token in continuation))]

    def _timed(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, *, forbid_end: bool
    ) -> tuple[list[list[int]], list[float]]:
        """Tokens [batch, new_tokens] and the seconds since the call at which each step's were there."""
        import numpy as np

        began = time.perf_counter()
        steps: list[list[int]] = []
        times: list[float] = []
        generator = self.graph.generator(length=len(prompts[0]) + new_tokens, batch=len(prompts), forbid_end=forbid_end)
        generator.append_tokens(np.array(prompts, dtype=np.int32))
        while len(steps) < new_tokens:
            generator.generate_next_token()
            steps.append(generator.get_next_tokens().tolist())
            times.append(time.perf_counter() - began)
        return [list(path) for path in zip(*steps, strict=True)], times

    def _greedy(self, prompt: Sequence[int], new_tokens: int) -> list[int]:
        """A path for which no token ends anything; the engine appends chosen tokens to one sequence only."""
        generator = self.graph.generator(length=len(prompt) + new_tokens)
        path: list[int] = []
        while len(path) < new_tokens:
            path.append(int(self._next_scores(generator, [path[-1]] if path else prompt).argmax()))
        return path

    def _next_scores(self, generator: Any, given: Sequence[int]) -> Any:
        """Scores [vocab] of the token after `given`."""
        import numpy as np

        generator.append_tokens(np.array([given], dtype=np.int32))
        return next_scores(generator)


def next_scores(generator: Any) -> Any:
    """Scores [vocab] of the next token of a generator's only sequence, in float32."""
    import numpy as np

    return np.array(generator.get_logits(), dtype=np.float32)[0, -1]


def _overlay(job: Job, end: int) -> dict[str, Any]:
    """Threads, and the token that ends a sequence: the engine needs one, and stops there unless it is forbidden."""
    threads = {"intra_op_num_threads": job.threads}
    return {"model": {"eos_token_id": end, "decoder": {"session_options": threads}}}

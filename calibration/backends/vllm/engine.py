"""vLLM's engine, stepped in this process: what it generates, and its scores of tokens that are forced."""

import itertools
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from calibration.backend import Engine, Generation, Job, Rows

_MOST_SCORED = 1 << 12
"""Each score becomes a Python object: of a larger vocabulary those of the best tokens are enough."""


class Stepped(Engine):
    """A loaded engine, one step a call.

    Args:
        engine: LLMEngine.
        vocab_size: scores of padding beyond it are dropped.
        forces: it was built with forcing().
    """

    scores_its_steps = True

    def __init__(self, engine: Any, vocab_size: int, *, forces: bool) -> None:
        self._engine = engine
        self._vocab_size = vocab_size
        self._forces = forces
        self._numbers = itertools.count()

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """All prompts are asked for at once; the engine's scheduler decides which of them a step works on."""
        began = time.perf_counter()
        tokens: list[list[int]] = [[] for _ in prompts]
        arrivals: list[list[float]] = [[] for _ in prompts]
        for row, news, now in self._run(prompts, new_tokens):
            tokens[row] += news.token_ids
            arrivals[row] += [now - began] * len(news.token_ids)
        return Generation(tokens=tuple(map(tuple, tokens)), arrivals=tuple(map(tuple, arrivals)))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        """Logits of decoding steps whose choice is forced; None over several GPUs."""
        if not self._forces:
            return None
        forced = {"forced": [*continuation]}
        most = min(self._vocab_size, _MOST_SCORED)
        rows = []
        for _, news, _ in self._run([prompt], len(continuation) + 1, logprobs=most, extra_args=forced):
            for scores in news.logprobs:
                row = array("f", [float("-inf")]) * self._vocab_size
                for token, score in scores.items():
                    if token < self._vocab_size:
                        row[token] = score.logprob
                rows.append(row)
        return rows

    def close(self) -> None:
        self._engine.engine_core.shutdown()

    def _run(self, prompts: Sequence[Sequence[int]], new_tokens: int, **more: Any) -> Iterator[tuple[int, Any, float]]:
        """Step until all is done: (row of the prompt, what is new of its answer, the clock at the end of the step)."""
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        rows = {str(next(self._numbers)): row for row in range(len(prompts))}
        for name, row in rows.items():
            wanted = SamplingParams(
                max_tokens=new_tokens,
                temperature=0,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
                **more,
            )
            self._engine.add_request(name, tokens_input([*prompts[row]]), wanted)
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            now = time.perf_counter()
            for out in outputs:
                yield rows[out.request_id], out.outputs[0], now


def forcing() -> Any:
    """A class of logits processors that force the tokens in a request's extra_args once a step's scores are taken."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class Forcing(AdapterLogitsProcessor):  # type: ignore[misc]
        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: Any) -> Any:
            forced = (params.extra_args or {}).get("forced")
            if not forced:
                return None

            def force(tokens_so_far: list[int], logits: Any) -> Any:
                if len(tokens_so_far) < len(forced):
                    logits.fill_(float("-inf"))
                    logits[forced[len(tokens_so_far)]] = 0.0
                return logits

            return force

    return Forcing


def blocks(job: Job, config: Any) -> int:
    """Blocks of the KV cache for twice the largest batch, so that nothing waits or is computed again.

    Layers of several kinds are cut into groups as large as the rarest kind, each with blocks of its own
    (v1/core/kv_cache_utils.py, get_kv_cache_groups).
    """
    pages = -(-job.max_context_tokens // (config.cache_config.block_size or 16)) + 1
    kinds = Counter(getattr(config.model_config.hf_text_config, "layer_types", None) or [""])
    groups = sum(-(-count // min(kinds.values())) for count in kinds.values())
    return max(16, 2 * job.max_batch * pages * groups)

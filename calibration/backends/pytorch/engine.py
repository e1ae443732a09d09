"""LMDeploy's PyTorch engine as a worker drives it: token ids go in, tokens with their arrivals and scores come out."""

import itertools
import time
from array import array
from collections.abc import Sequence
from typing import Any

from calibration.backend import Engine, Generation, Job, Rows, StoppedEarly


class PyTorchEngine(Engine):
    """One event loop for the engine's life: the engine's own loop is a task of it."""

    def __init__(self, engine: Any, job: Job) -> None:
        import asyncio  # 23 ms that only a worker pays

        self._engine = engine
        self._vocab_size = job.vocab_size
        self._max_batch = job.max_batch
        self._loop = asyncio.new_event_loop()
        self._session_ids = itertools.count(1)

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        began = time.perf_counter()
        streams = [self._stream(prompt, new_tokens, began) for prompt in prompts]
        done = self._loop.run_until_complete(_gather(streams))
        return Generation(tokens=tuple(tuple(d[0]) for d in done), arrivals=tuple(tuple(d[1]) for d in done))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        """Log-probabilities of the whole vocabulary, one prefill a row; what the engine leaves out is -inf."""
        prefixes = [[*prompt, *continuation[:i]] for i in range(len(continuation) + 1)]
        rows: list[array[float]] = []
        for start in range(0, len(prefixes), self._max_batch):
            streams = [self._stream(p, 1, 0.0, self._vocab_size) for p in prefixes[start : start + self._max_batch]]
            for _, _, scores in self._loop.run_until_complete(_gather(streams)):
                row = array("f", [float("-inf")]) * self._vocab_size
                for token, score in scores[0].items():
                    if token < self._vocab_size:
                        row[token] = score
                rows.append(row)
        return rows

    def close(self) -> None:
        self._engine.close()
        self._loop.run_until_complete(_cancel_tasks())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _stream(
        self, prompt: Sequence[int], new_tokens: int, began: float, logprobs: int | None = None
    ) -> tuple[list[int], list[float], list[dict[int, float]]]:
        """Tokens, arrivals and scores of one prompt. Tokens of one yield share its time."""
        from lmdeploy import GenerationConfig

        if not prompt:
            raise ValueError("the PyTorch engine needs a prompt; an empty one ends its loop")
        # No stop ids: with ignore_eos the engine masks them. No output_logits: it corrupts the request that follows
        # (model_agent/agent.py:1183 keeps a row that inputs_maker.py:1266 skips).
        wanted = GenerationConfig(
            max_new_tokens=new_tokens, top_k=1, temperature=1.0, ignore_eos=True, logprobs=logprobs
        )
        tokens: list[int] = []
        arrivals: list[float] = []
        scores: list[dict[int, float]] = []
        status = "no answer"
        stream = self._engine.create_instance().async_stream_infer(
            next(self._session_ids), list(prompt), gen_config=wanted
        )
        try:
            async for out in stream:
                tokens += out.token_ids
                arrivals += [time.perf_counter() - began] * len(out.token_ids)
                scores += out.logprobs or []
                status = out.status.name
        finally:
            await stream.aclose()
        if status != "FINISH" or len(tokens) != new_tokens or (logprobs and not scores):
            kind = StoppedEarly if status == "FINISH" else RuntimeError
            raise kind(
                f"the PyTorch engine ended with {status} after {len(tokens)} of {new_tokens} tokens and {len(scores)}"
                f" rows of scores (prompt of {len(prompt)} tokens)"
            ) from self._cause()
        return tokens, arrivals, scores

    def _cause(self) -> BaseException | None:
        """What ended the engine's loop: callers only see ENGINE_STOP_ERROR, two seconds later."""
        main = self._engine._loop_main
        return main.exception() if main is not None and main.done() and not main.cancelled() else None


async def _gather(streams: Sequence[Any]) -> list[Any]:
    import asyncio

    return await asyncio.gather(*streams)


async def _cancel_tasks() -> None:
    import asyncio

    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

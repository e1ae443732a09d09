"""transformers' continuous batching as streams: a request joins those that run, in one forward for all.

It computes otherwise than the decode loop that a calibration times and checks: the tokens of all requests stand in one
row, keys and values in pages that are gathered for each step, and a mask keeps the requests apart. What a model's
attention does beside that mask is left out without a word (the softcap of Gemma 2's scores, 5.23.0). So both answer a
few tokens while the model is loaded, and where they differ, the loop serves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from calibration.backend import Job
from calibration.backends.transformers.decode_loop import DecodeLoop
from calibration.backends.transformers.sampling import Sampling
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams, TokenScores

PAGE_TOKENS = 32
"""Of keys and values. A request fills its last page in part, and pages are gathered token by token, so that small ones
cost nothing."""
PIECE_TOKENS = 512
"""A longer prompt is computed in pieces of this length, between which the others go on. It bounds the mask, which has a
row for each token of a step and a column for each token in the cache."""
TRIED_TOKENS = 6
"""Of each of two answers that are compared with the decode loop's."""
APART_FP32 = 1e-5
APART_16_BITS = 1e-2
"""Nats: what rounding may make of the next token's distribution. In float32 it made up to 5e-7, of 14 models that are
batched rightly; in bfloat16 up to 1.5e-3, of smollm2-135m, qwen2.5-0.5b and gemma-3-270m. What is wrong is 0.02
(Gemma 2 without its softcap) and more apart. All with random weights; transformers 5.23.0, torch 2.13."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """A request that runs."""

    request: Request
    sampling: Sampling
    told: int = 0
    scores: list[TokenScores] = field(default_factory=list)
    """Of tokens that are not told yet."""


class ContinuousLoop(Streams):
    """The batch processor of transformers' ContinuousBatchingManager, a step at a time on the thread that calls.

    The manager itself would run the steps on a thread of its own, and choose the tokens of all requests as the first
    one asks for. Here they are chosen for each by itself, by a processor of logits that leaves the chosen token alone.

    Args:
        model: of transformers. Its attention is switched to a form that knows pages.
        max_batch: requests at once; the others wait.
        max_context_tokens: longest sequence of each.
    """

    abilities = frozenset(Ability)
    prompt_tokens_at_once = PIECE_TOKENS

    def __init__(self, model: Any, *, max_batch: int, max_context_tokens: int) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig
        from transformers.generation.continuous_batching.cb_logits_processors import (
            ContinuousBatchingLogitsProcessorList,
        )
        from transformers.generation.logits_process import LogitsProcessorList

        self._max_context_tokens = max_context_tokens
        self._runs: dict[str, _Run] = {}
        self.watched: dict[str, list[Any]] | None = None
        """Where it is not None: takes the logits [vocab] of every step, by request."""
        pages = math.ceil(max_context_tokens / PAGE_TOKENS) + 1
        self._manager: Any = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=pages * max_batch,
                max_batch_tokens=min(PIECE_TOKENS, max_context_tokens) + max_batch,
                max_requests_per_batch=max_batch,
                # A prompt that begins like an earlier one would pass for a fast prefill.
                allow_block_sharing=False,
                # All pages are there from the beginning; none is kept free for those that run already.
                safety_margin=0.0,
                use_async_batching=False,
                use_cuda_graph=False,
                auto_switch_to_flash=False,
            ),
        )
        self._manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([_EachItsOwn(self)]))
        self._manager.warmup()  # makes the batch processor, and there is nothing to compile
        self._processor: Any = self._manager.batch_processor

    @property
    def running(self) -> int:
        return len(self._runs)

    def add(self, request: Request) -> None:
        request.check_fits(self._max_context_tokens)
        self._runs[request.id] = _Run(request=request, sampling=Sampling(request))
        self._manager.add_request(
            list(request.prompt),
            request_id=request.id,
            max_new_tokens=request.max_tokens,
            eos_token_id=sorted(request.end_tokens),
            streaming=True,
        )

    def step(self) -> Sequence[Delta]:
        if self._processor.prepare_next_batch():
            self._processor._generation_step(self._manager.model)
            self._processor.update_batch()
        deltas = []
        while (output := self._manager.get_result(timeout=0)) is not None:
            if (run := self._runs.get(output.request_id)) is not None:
                deltas.append(self._delta(run, output))
        return deltas

    def cancel(self, request_id: str) -> None:
        if self._runs.pop(request_id, None) is None:
            return
        self._manager.cancel_request(request_id)
        if not self._runs:  # else the next step begins with it
            self._processor.prepare_next_batch()

    def choose(self, logits: Any) -> None:
        """Leave the chosen token alone in the rows of requests that do not simply take the likeliest.

        Args:
            logits: [rows, vocab]; those of the requests that get a token come first, in the order of the batch.
        """
        batch = self._processor.inputs_and_outputs.requests_in_batch
        chosen_for = [future.state.request_id for future in batch if future.has_new_token]
        for name, row in zip(chosen_for, logits, strict=False):
            if self.watched is not None:
                self.watched.setdefault(name, []).append(row.float().cpu().clone())
            run = self._runs[name]
            if run.sampling.is_plain:
                continue
            token, scores = run.sampling.choose(row.float().cpu())
            if scores is not None:
                run.scores.append(scores)
            row.fill_(-math.inf)
            row[token] = 0.0

    def _delta(self, run: _Run, output: Any) -> Delta:
        tokens = tuple(output.generated_tokens[run.told :])
        scores, run.scores = tuple(run.scores[: len(tokens)]), run.scores[len(tokens) :]
        run.told += len(tokens)
        finish, message = None, ""
        if output.error is not None:
            finish, message = Finish.ERROR, str(output.error)
        elif output.is_finished():
            finish = run.request.finish(tokens[-1], run.told)
        if finish is not None:
            del self._runs[run.request.id]
        return Delta(id=run.request.id, tokens=tokens, scores=scores, finish=finish, message=message)


class _EachItsOwn:
    """A processor of logits, as the manager calls it."""

    supports_continuous_batching = True

    def __init__(self, loop: ContinuousLoop) -> None:
        self._loop = loop

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._loop.choose(scores)
        return scores


def continuous(loop: DecodeLoop, model: Any, job: Job) -> ContinuousLoop | None:
    """Continuous batching of a model; None where it fails, or does not answer as the decode loop does.

    Args:
        loop: around the model. Where there is continuous batching, it is not to be used any more.
    """
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        # Scores that are small hardly feel it, so that a few tokens of a trained model need not show it.
        _say_why_not(model, "it leaves the softcap of attention scores out")
        return None
    attention = model.config._attn_implementation
    new_tokens = min(TRIED_TOKENS, job.max_context_tokens // 2)
    expected = {
        prompt: loop.score_greedy(prompt, new_tokens)
        for prompt in _tried_prompts(job.vocab_size, job.max_context_tokens - new_tokens)
    }
    try:
        streams = ContinuousLoop(model, max_batch=job.max_batch, max_context_tokens=job.max_context_tokens)
        apart = _apart(streams, expected)
        if apart < (APART_FP32 if str(model.dtype) == "torch.float32" else APART_16_BITS):
            return streams
        reason = f"its answers are {apart:.2g} nats apart from the decode loop's"
    except Exception as error:  # noqa: BLE001  what it cannot run shows in a hundred ways
        reason = f"{type(error).__name__}: {error}"
    model.set_attn_implementation(attention)
    _say_why_not(model, reason)
    return None


def _say_why_not(model: Any, reason: str) -> None:
    # A worker's stdout is its log.
    print(f"{type(model).__name__} is served one request after another; continuous batching: {reason}", flush=True)  # noqa: T201


def _tried_prompts(vocab_size: int, longest: int) -> list[tuple[int, ...]]:
    return [tuple(7 * place % vocab_size for place in range(1, 1 + min(length, longest))) for length in (29, 19)]


def _apart(streams: ContinuousLoop, expected: Mapping[tuple[int, ...], tuple[Sequence[int], Any]]) -> float:
    """Nats, the largest divergence of a next token's distribution from the decode loop's; a prompt joins those before.

    Args:
        expected: by prompt, the decode loop's greedy path and the logits along it.
    """
    import torch

    streams.watched = {}
    for prompt, (path, _) in expected.items():
        streams.add(Request(id=str(len(prompt)), prompt=prompt, max_tokens=len(path)))
        streams.step()
    while streams.running:
        streams.step()
    watched, streams.watched = streams.watched, None
    largest = 0.0
    for prompt, (path, rows) in expected.items():
        for token, right, row in zip(path, rows, watched[str(len(prompt))], strict=True):
            told, ours = torch.log_softmax(right, -1), torch.log_softmax(row, -1)
            shares = told.exp()
            divergence = float((shares * (told - ours)).where(shares > 0, torch.zeros(())).sum())
            if math.isnan(divergence):
                return math.inf
            largest = max(largest, divergence)
            if int(row.argmax()) != token:
                break  # from here on the two continue different texts
    return largest

"""Requests served by CTranslate2: a call takes none while it runs, so they wait, and those that are alike share one.

Prompts of a call are best of one length: what is beyond the shortest the engine reads a token at a time, all of them
together (`generate_batch`). Two calls side by side, each on half of the cores (`inter_threads`), are no faster than one
after another on all of them.
"""

import queue
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from calibration.backend import Job
from calibration.backends.ctranslate2.engine import GeneratorEngine, as_array
from calibration.engine.log_probabilities import step_scores
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams

WAIT_S = 0.1
"""How long a step waits for a token. A prompt may take longer; meanwhile requests come and are cancelled."""

SPAN_TOKENS = 32
"""Prompts of a call differ by so many tokens at most, and by half as many as are to come.

Each token of the span is a step of the whole call, and a request that joins saves its own steps. With spans of 0, 15
and 30 tokens four requests took 0.52, 0.61 and 0.73 of the processor's time that they take one after another for 32 new
tokens, and 0.48, 0.59 and 0.59 of it for 64 (smollm2-135m in float32, one core).
"""

SCORES_BYTES = 256 << 20
"""What the engine may hold of scores: until a call ends it keeps all of its steps, in float32."""


class Batches(Streams):
    """ctranslate2.Generator.generate_batch, one call after another.

    There is no seed: the engine's thread draws from a generator that it seeds once (OpenNMT/CTranslate2 issue 1757).
    """

    abilities: ClassVar[frozenset[Ability]] = frozenset({Ability.TEMPERATURE, Ability.TOP_P, Ability.LOGPROBS})
    batching: ClassVar[str] = "static"

    def __init__(self, engine: GeneratorEngine, job: Job) -> None:
        self._engine, self._job = engine, job
        self._waiting: deque[Request] = deque()
        self._call: _Call | None = None

    @property
    def running(self) -> int:
        return len(self._waiting) + (self._call.running if self._call else 0)

    def add(self, request: Request) -> None:
        request.check_fits(self._job.max_context_tokens)
        longest = SCORES_BYTES // (4 * len(self._engine.words))
        if request.logprobs and request.max_tokens > longest:
            raise ValueError(f"needs max_tokens of at most {longest} with logprobs; found {request.max_tokens}")
        self._waiting.append(request)

    def step(self) -> Sequence[Delta]:
        if self._call is None:
            if not self._waiting:
                return ()
            self._call = _Call(self._engine, self._take_alike())
        deltas = self._call.step()
        self._forget_if_over()
        return deltas

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(request for request in self._waiting if request.id != request_id)
        if self._call is not None:
            self._call.cancel(request_id)
            self._forget_if_over()

    def close(self) -> None:
        self._waiting.clear()
        if self._call is not None:
            self._call.cancel_all()
            self._call = None
        # A call ends with its next token; the model must not be unloaded under it.
        while self._engine.generator.num_active_batches:
            time.sleep(0.01)
        self._engine.close()

    def _take_alike(self) -> list[Request]:
        """Of those that wait the first, and others that may share its call."""
        first, *others = self._waiting
        alike = [first]
        # The engine hands over the scores of a whole step with its first row alone (decoding.cc, GreedySearch).
        places = 1 if first.logprobs else self._job.max_batch
        for request in others:
            if len(alike) < places and _are_alike([*alike, request]):
                alike.append(request)
        self._waiting = deque(request for request in self._waiting if request not in alike)
        return alike

    def _forget_if_over(self) -> None:
        if self._call is not None and not self._call.running:
            self._call = None


def _are_alike(requests: Sequence[Request]) -> bool:
    """Whether they are sampled alike, and their prompts are nearly as long."""
    lengths = [len(request.prompt) for request in requests]
    span = min(SPAN_TOKENS, min(request.max_tokens for request in requests) // 2)
    kinds = {(request.temperature, request.top_p, request.logprobs > 0) for request in requests}
    return len(kinds) == 1 and max(lengths) - min(lengths) <= span


class _Call:
    """A call of the engine, which runs on a thread of the engine's own and calls back for every token."""

    def __init__(self, engine: GeneratorEngine, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._counts = [0] * len(requests)
        self._live = dict(enumerate(requests))
        """By row, those that have not ended. The engine's thread only looks whether a row is in it."""
        self._deltas: queue.SimpleQueue[tuple[int, Delta]] = queue.SimpleQueue()
        [first, *_] = requests
        self._results = engine.generator.generate_batch(
            [[engine.words[token] for token in request.prompt] for request in requests],
            max_length=max(request.max_tokens for request in requests),
            end_token=[],
            include_prompt_in_result=False,
            return_logits_vocab=first.logprobs > 0,
            asynchronous=True,
            callback=self._take,
            **_sampling(first),
        )

    @property
    def running(self) -> int:
        return len(self._live)

    def step(self) -> list[Delta]:
        """What has come; waits a moment for the first."""
        try:
            come = [self._deltas.get(timeout=WAIT_S)]
        except queue.Empty:
            return self._failure()
        while not self._deltas.empty():
            come.append(self._deltas.get())
        deltas = [delta for row, delta in come if row in self._live]
        for row, delta in come:
            if delta.finish is not None:
                self._live.pop(row, None)
        return deltas

    def cancel(self, request_id: str) -> None:
        """The engine ends that row when it has its next token; none is told."""
        self._live = {row: request for row, request in self._live.items() if request.id != request_id}

    def cancel_all(self) -> None:
        self._live = {}

    def _take(self, step: Any) -> bool:
        """A token, on the engine's thread; True ends its row there."""
        row, token = int(step.batch_id), int(step.token_id)
        if row not in self._live:
            return True
        request = self._requests[row]
        self._counts[row] += 1
        finish = request.finish(token, self._counts[row])
        scores = (step_scores(as_array(step.logits)[0], token, request.logprobs),) if request.logprobs else ()
        self._deltas.put((row, Delta(id=request.id, tokens=(token,), scores=scores, finish=finish)))
        return finish is not None

    def _failure(self) -> list[Delta]:
        """What to tell those that have not ended, where the call has; nothing where it goes on."""
        if not all(result.done() for result in self._results) or not self._deltas.empty():
            return []
        message = "the engine ended before the answer did"
        try:
            for result in self._results:
                result.result()
        except Exception as error:  # noqa: BLE001  whatever the engine raises is told to those that it fails
            message = str(error)
        failed = [Delta(id=request.id, finish=Finish.ERROR, message=message) for request in self._live.values()]
        self._live = {}
        return failed


def _sampling(request: Request) -> dict[str, Any]:
    if request.temperature == 0:
        return {"sampling_topk": 1}
    # 0: of the whole vocabulary.
    return {"sampling_topk": 0, "sampling_topp": request.top_p, "sampling_temperature": request.temperature}

"""Requests served on a graph of ONNX Runtime GenAI: those that run take their steps together, and others join them.

GenAI's own `Engine` is not used: on a CPU its batches are static, so that a request waits until the last one ends, and
it fails on graphs that score the last position alone, as ours do (onnxruntime-genai 0.18.0).
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from calibration.backend import Job
from calibration.backends.onnxruntime.ragged import RaggedGraph
from calibration.backends.onnxruntime.sampling import choose, random_of
from calibration.engine.log_probabilities import step_scores
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams

PIECE_TOKENS = 256
"""So much of a prompt is read in one step while others wait for their next token. OpenVINO's scheduler has the same."""


class Together(Streams):
    """A step is either one token of all that run, or a piece of one prompt; the two take turns."""

    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability)
    batching: ClassVar[str] = "continuous"
    prompts_at_once: ClassVar[int] = 1

    def __init__(self, graph: RaggedGraph, job: Job, *, piece_tokens: int = PIECE_TOKENS) -> None:
        self._graph, self._job, self._piece_tokens = graph, job, piece_tokens
        self._waiting: deque[Request] = deque()
        self._answers: list[_Answer] = []
        """Those that run, by the row of their caches."""
        self._reading: _Answer | None = None
        """Whose prompt is being read, into the row after theirs."""
        self._has_read = False
        """Whether the last step read a piece."""

    @property
    def running(self) -> int:
        return len(self._waiting) + len(self._answers) + (self._reading is not None)

    def add(self, request: Request) -> None:
        request.check_fits(self._job.max_context_tokens)
        self._waiting.append(request)

    def step(self) -> Sequence[Delta]:
        if self._reading is None and self._waiting and len(self._answers) < self._job.max_batch:
            self._reading = _Answer(self._waiting.popleft())
        self._has_read = self._reading is not None and not (self._has_read and self._answers)
        if self._reading is not None and self._has_read:
            return self._read(self._reading)
        return self._decode() if self._answers else ()

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(request for request in self._waiting if request.id != request_id)
        if self._reading is not None and self._reading.request.id == request_id:
            self._reading = None
        for answer in [answer for answer in self._answers if answer.request.id == request_id]:
            self._leave(answer)

    def close(self) -> None:
        self._waiting.clear()
        self._answers.clear()
        self._reading = None

    def _read(self, answer: "_Answer") -> Sequence[Delta]:
        """A piece of a prompt, and the first token where it is the last piece."""
        prompt, row = answer.request.prompt, len(self._answers)
        # Where nobody waits for a token a prompt is read at once, which is faster.
        end = min(len(prompt), answer.length + self._piece_tokens) if self._answers else len(prompt)
        try:
            scores = self._graph.read(row, answer.length, prompt[answer.length : end])
        except Exception as error:  # noqa: BLE001  whatever the engine raises is told to the request that it fails
            self._reading = None
            return [Delta(id=answer.request.id, finish=Finish.ERROR, message=str(error))]
        answer.length = end
        if end < len(prompt):
            return ()
        self._reading = None
        self._answers.append(answer)
        return [self._take(answer, scores)]

    def _decode(self) -> Sequence[Delta]:
        """A token of each that runs."""
        answers = self._answers
        scores = self._graph.append([answer.last for answer in answers], [answer.length for answer in answers])
        # From the last row to the first: who ends gives its row to the last one.
        deltas = []
        for row in reversed(range(len(answers))):
            answers[row].length += 1
            deltas.append(self._take(answers[row], scores[row]))
        return deltas

    def _take(self, answer: "_Answer", scores: Any) -> Delta:
        delta = answer.take(scores)
        if delta.finish is not None:
            self._leave(answer)
        return delta

    def _leave(self, answer: "_Answer") -> None:
        """Give up a row: the last that runs moves into it, and a prompt that is being read stands after them again."""
        row, last = self._answers.index(answer), self._answers.pop()
        if last is not answer:
            self._answers[row] = last
            self._graph.move(len(self._answers), row, last.length)
        if self._reading is not None and self._reading.length:
            self._graph.move(len(self._answers) + 1, len(self._answers), self._reading.length)


class _Answer:
    """A request that has a row."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.length = 0
        """Tokens in its row."""
        self.last = -1
        """The new token that is not in its row yet."""
        self._count = 0
        self._random = random_of(request)

    def take(self, scores: Any) -> Delta:
        """Choose the next token."""
        request = self.request
        self.last = token = choose(scores, request, self._random)
        self._count += 1
        told = (step_scores(scores, token, request.logprobs),) if request.logprobs else ()
        return Delta(id=request.id, tokens=(token,), scores=told, finish=request.finish(token, self._count))

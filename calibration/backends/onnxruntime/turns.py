"""Requests served by ONNX Runtime GenAI on graphs that take sequences of one length alone: they take turns.

Each has a generator of its own. A late one waits for nobody, and together they are no faster than one after another.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from calibration.backend import Job
from calibration.backends.onnxruntime.engine import Graph, next_scores
from calibration.backends.onnxruntime.sampling import choose, random_of
from calibration.engine.log_probabilities import step_scores
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams


class Turns(Streams):
    """onnxruntime_genai.Generator, one for each request. A step is one token of one request."""

    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability)
    batching: ClassVar[str] = "turns"
    prompts_at_once: ClassVar[int] = 1

    def __init__(self, graph: Graph, job: Job) -> None:
        self._graph, self._job = graph, job
        self._waiting: deque[Request] = deque()
        self._answers: deque[_Answer] = deque()
        """The first has the next turn."""

    @property
    def running(self) -> int:
        return len(self._waiting) + len(self._answers)

    def add(self, request: Request) -> None:
        request.check_fits(self._job.max_context_tokens)
        self._waiting.append(request)

    def step(self) -> Sequence[Delta]:
        if self._waiting and len(self._answers) < self._job.max_batch:
            self._answers.appendleft(_Answer(self._waiting.popleft()))
        if not self._answers:
            return ()
        answer = self._answers.popleft()
        try:
            delta = answer.step(self._graph)
        except RuntimeError as error:
            return [Delta(id=answer.request.id, finish=Finish.ERROR, message=str(error))]
        if delta.finish is None:
            self._answers.append(answer)
        return [delta]

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(request for request in self._waiting if request.id != request_id)
        self._answers = deque(answer for answer in self._answers if answer.request.id != request_id)

    def close(self) -> None:
        self._waiting.clear()
        self._answers.clear()


class _Answer:
    """A request that has its turns. Its generator, which holds its cache, is freed with it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._path: list[int] = []
        self._generator: Any = None
        self._random = random_of(request)

    def step(self, graph: Graph) -> Delta:
        """The next token; before the first the prompt is read."""
        request = self.request
        if self._generator is None:
            self._generator = self._begin(graph)
        scores = next_scores(self._generator) if request.needs() else None
        if request.temperature > 0:
            self._force(choose(scores, request, self._random), scores)
        self._generator.generate_next_token()
        token = int(self._generator.get_next_tokens()[0])
        self._path.append(token)
        if token == graph.end:
            # The engine has ended the sequence. Where the request goes on, all of it is read anew.
            self._generator = None
        told = (step_scores(scores, token, request.logprobs),) if request.logprobs else ()
        return Delta(id=request.id, tokens=(token,), scores=told, finish=request.finish(token, len(self._path)))

    def _begin(self, graph: Graph) -> Any:
        """A generator that has read the prompt, and what came after it."""
        import numpy as np

        request = self.request
        generator = graph.generator(length=len(request.prompt) + request.max_tokens)
        generator.append_tokens(np.array([[*request.prompt, *self._path]], dtype=np.int32))
        return generator

    def _force(self, token: int, scores: Any) -> None:
        """Have the engine choose this token. Its own sampling takes others than those that have top_p (0.18.0)."""
        import numpy as np

        forced = np.full_like(scores, -np.inf)
        forced[token] = 0
        self._generator.set_logits(forced[None])

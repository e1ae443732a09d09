"""The engine of a selection in this process."""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence

from calibration.backend import Backend, Engine, Generation, Job, Rows
from calibration.engine.streams import Ability, Delta, Finish, Request
from calibration.errors import UsageError
from selector.loading.loaded import Loaded, LoadedEngine


class EngineHere(LoadedEngine):
    """Used by one thread. Iterators of several streams may take turns; while any of them is open, nothing else runs.

    The model is loaded once: what generates streams as well.

    Args:
        engine: what `backend.load(job)` gave.
    """

    def __init__(self, engine: Engine, backend: Backend, job: Job, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._engine, self._streams = engine, backend.streams_of(engine, job)
        self._waiting: defaultdict[str, list[Delta]] = defaultdict(list)

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._streams.abilities

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        return self._idle().generate(prompts, new_tokens)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        return self._idle().score(prompt, continuation)

    def score_greedy(self, prompt: Sequence[int], new_tokens: int) -> tuple[Sequence[int], Rows | None]:
        return self._idle().score_greedy(prompt, new_tokens)

    def score_each(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> Iterator[Rows | None]:
        return self._idle().score_each(prompts, continuations)

    def score_greedy_each(
        self, prompts: Sequence[Sequence[int]], new_tokens: int
    ) -> Iterator[tuple[Sequence[int], Rows | None]]:
        return self._idle().score_greedy_each(prompts, new_tokens)

    def close(self) -> None:
        self._streams.close()

    def _idle(self) -> Engine:
        """The engine, which streams nothing now.

        Raises:
            UsageError: it does: both would use one cache.
        """
        if self._streams.running:
            raise UsageError(
                f"{self._loaded.label} is still streaming an answer", "read its iterator to the end, or close it"
            )
        return self._engine

    def _deltas(self, request: Request) -> Generator[Delta]:
        streams = self._streams
        try:
            streams.add(request)
        except ValueError as error:
            yield Delta(id=request.id, finish=Finish.ERROR, message=str(error))
            return
        ended = False
        try:
            while not ended:
                while not self._waiting[request.id]:
                    for delta in streams.step():
                        self._waiting[delta.id].append(delta)
                for delta in self._waiting.pop(request.id):
                    ended = delta.finish is not None
                    yield delta
        finally:
            self._waiting.pop(request.id, None)
            if not ended:
                streams.cancel(request.id)

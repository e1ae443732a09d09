"""The engine of a selection in this process."""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence

from calibration.backend import Backend, Engine, Generation, Job, Rows
from calibration.streams import Ability, Delta, Finish, OneAfterAnother, Request, Streams
from selector.loading.loaded import Loaded, LoadedEngine


class EngineHere(LoadedEngine):
    """Used by one thread. Iterators of several streams may take turns.

    An engine that streams by another object than the one that generates loads the model a second time when `stream` is
    first called.

    Args:
        engine: what generates.
        backend, job: what streams is loaded by.
    """

    def __init__(self, engine: Engine, backend: Backend, job: Job, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._engine, self._backend, self._job = engine, backend, job
        self._streams: Streams | None = None
        self._waiting: defaultdict[str, list[Delta]] = defaultdict(list)

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._loaded_streams().abilities

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        return self._engine.generate(prompts, new_tokens)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        return self._engine.score(prompt, continuation)

    def score_greedy(self, prompt: Sequence[int], new_tokens: int) -> tuple[Sequence[int], Rows | None]:
        return self._engine.score_greedy(prompt, new_tokens)

    def score_each(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> Iterator[Rows | None]:
        return self._engine.score_each(prompts, continuations)

    def score_greedy_each(
        self, prompts: Sequence[Sequence[int]], new_tokens: int
    ) -> Iterator[tuple[Sequence[int], Rows | None]]:
        return self._engine.score_greedy_each(prompts, new_tokens)

    def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None and not isinstance(streams, OneAfterAnother):
            streams.close()
        self._engine.close()

    def _deltas(self, request: Request) -> Generator[Delta]:
        streams = self._loaded_streams()
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

    def _loaded_streams(self) -> Streams:
        if self._streams is None:
            only_generates = type(self._backend).streams is Backend.streams
            self._streams = OneAfterAnother(self._engine) if only_generates else self._backend.streams(self._job)
        return self._streams

"""OpenVINO GenAI as streams: continuous batching with paged attention; without it one request after another."""

import itertools
import queue
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from calibration.backend import Job
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams, TokenByToken, TokenScores

_SAMPLING = frozenset({Ability.TEMPERATURE, Ability.TOP_P, Ability.SEED})
"""Of log-probabilities it tells the chosen token's alone, whatever is asked for."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """A request in the pipeline."""

    request: Request
    handle: Any
    """Of openvino_genai.GenerationHandle. The pipeline cancels a request whose handle is dropped."""


class PagedStreams(Streams):
    """openvino_genai.ContinuousBatchingPipeline, which is also what LLMPipeline runs with paged attention.

    So it computes what the correctness check judged: the same graph, scheduler and kernels.

    Args:
        pipeline: openvino_genai.ContinuousBatchingPipeline.
        job: requests beyond `max_batch` wait here, where they cost nothing when they are cancelled.
    """

    abilities = _SAMPLING

    def __init__(self, pipeline: Any, job: Job) -> None:
        self._pipeline, self._job = pipeline, job
        self._numbers = itertools.count()
        self._waiting: deque[Request] = deque()
        self._runs: dict[str, _Run] = {}

    @property
    def running(self) -> int:
        return len(self._runs) + len(self._waiting)

    def add(self, request: Request) -> None:
        _check(request, self._job)
        self._waiting.append(request)

    def step(self) -> Sequence[Delta]:
        while self._waiting and len(self._runs) < self._job.max_batch:
            self._start(self._waiting.popleft())
        self._pipeline.step()
        return [delta for run in list(self._runs.values()) if (delta := self._delta(run)) is not None]

    def cancel(self, request_id: str) -> None:
        self._waiting = deque(request for request in self._waiting if request.id != request_id)
        run = self._runs.pop(request_id, None)
        if run is None:
            return
        run.handle.cancel()
        # The pipeline frees it at the end of its next step.
        while not self._runs and self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    def _start(self, request: Request) -> None:
        import numpy as np
        import openvino

        prompt = openvino.Tensor(np.array([request.prompt], dtype=np.int64))
        handle = self._pipeline.add_request(next(self._numbers), prompt, _asked(request))
        self._runs[request.id] = _Run(request=request, handle=handle)

    def _delta(self, run: _Run) -> Delta | None:
        import openvino_genai

        tokens: list[int] = []
        while run.handle.can_read():
            for output in run.handle.read().values():
                tokens += output.generated_ids
        finish, message = None, ""
        match run.handle.get_status():
            case openvino_genai.GenerationStatus.RUNNING:
                if not tokens:
                    return None
            case openvino_genai.GenerationStatus.FINISHED:
                finish = Finish.STOP if tokens and tokens[-1] in run.request.end_tokens else Finish.LENGTH
            case status:
                finish, message = Finish.ERROR, f"the pipeline gave the request up: {status.name}"
        if finish is not None:
            del self._runs[run.request.id]
        return Delta(id=run.request.id, tokens=tuple(tokens), finish=finish, message=message)


class StatefulStreams(TokenByToken):
    """openvino_genai.LLMPipeline without paged attention: it holds the cache of one batch, which none can join.

    Args:
        pipeline: openvino_genai.LLMPipeline. It answers on a thread, and is stopped where its streamer is asked next.
    """

    abilities = _SAMPLING

    def __init__(self, pipeline: Any, job: Job) -> None:
        super().__init__()
        self._pipeline, self._job = pipeline, job

    def add(self, request: Request) -> None:
        _check(request, self._job)
        super().add(request)

    def answer(self, request: Request) -> Generator[tuple[int, TokenScores | None]]:
        come: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        unwanted = threading.Event()
        thread = threading.Thread(target=self._generate, args=(request, come.put, unwanted), daemon=True)
        thread.start()
        try:
            while (token := come.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                yield token, None
        finally:
            unwanted.set()
            thread.join()

    def _generate(
        self, request: Request, put: Callable[[int | BaseException | None], None], unwanted: threading.Event
    ) -> None:
        import numpy as np
        import openvino
        import openvino_genai

        class Teller(openvino_genai.StreamerBase):  # type: ignore[misc]
            def write(self, token: int | list[int]) -> Any:
                for each in token if isinstance(token, list) else [token]:
                    put(int(each))
                statuses = openvino_genai.StreamingStatus
                return statuses.CANCEL if unwanted.is_set() else statuses.RUNNING

            def end(self) -> None:
                pass

        try:
            ids = np.array([request.prompt], dtype=np.int64)
            prompt = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
            self._pipeline.generate(prompt, _asked(request), Teller())
            put(None)
        except BaseException as error:  # noqa: BLE001  it is raised on the thread that steps
            put(error)


def _check(request: Request, job: Job) -> None:
    """Raises ValueError for what the engine would refuse later, when others run."""
    request.check_fits(job.max_context_tokens)
    try:
        _asked(request).validate()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _asked(request: Request) -> Any:
    """The request as an openvino_genai.GenerationConfig, with nothing of the checkpoint's own."""
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = request.max_tokens
    config.apply_chat_template = False
    config.do_sample = request.temperature > 0
    if config.do_sample:
        config.temperature = request.temperature
        config.top_p = request.top_p
        # Its own default is the same seed for every request; of a seed it takes 32 bits.
        config.rng_seed = secrets.randbits(32) if request.seed is None else zlib.crc32(str(request.seed).encode())
    if request.end_tokens:
        config.stop_token_ids = set(request.end_tokens)
        # Where no such token is named, the checkpoint's is added.
        config.set_eos_token_id(min(request.end_tokens))
    else:
        config.ignore_eos = True
    return config

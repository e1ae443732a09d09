"""Runs in the backend's own interpreter: one candidate, one process, JSON lines on a pipe.

supervision/supervisor.py starts it as a script, `python main.py COMMANDS EVENTS LIFELINE`, with three file descriptors.
The interpreter needs nothing of ours installed: the folder above becomes the package `calibration`, and nothing else of
ours is put on the path. Requests are objects with a `verb`; each is answered by one event, `{"event": "done", ...}` or
`{"event": "error", ...}`.
"""

import gc
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if __package__ in (None, ""):
    _beside = Path(__file__).resolve().parent
    _here = _beside.parent
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() not in {_beside, _here}]
    _spec = importlib.util.spec_from_file_location(
        "calibration", _here / "__init__.py", submodule_search_locations=[str(_here)]
    )
    assert _spec is not None and _spec.loader is not None
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["calibration"] = _package
    _spec.loader.exec_module(_package)

if TYPE_CHECKING:
    from calibration.backend import Backend, Engine, Job
    from calibration.engine.streams import Streams
    from calibration.probing.kernels import Library


def main(argv: Sequence[str]) -> None:
    """Serve requests until the pipe ends."""
    commands_fd, events_fd, lifeline_fd = map(int, argv)
    _die_with_parent(lifeline_fd, (commands_fd, events_fd))
    with (
        os.fdopen(commands_fd, "r", encoding="utf-8") as commands,
        os.fdopen(events_fd, "w", encoding="utf-8") as events,
    ):
        server = _Server()
        for line in commands:
            request = json.loads(line)
            verb = request.pop("verb")
            try:
                if verb == "serve":
                    _send(events, {"event": "done"})
                    server.take_requests(commands, events)
                    break
                answer = {"event": "done", **server.serve(verb, request)}
            except Exception as error:  # noqa: BLE001  whatever an engine raises is a result
                answer = {"event": "error", **_describe(error)}
                traceback.print_exc()
            _send(events, answer)
            if verb in {"close", "serve"}:
                break
        # An engine's shutdown may hang or abort, when all is answered; the supervisor kills the group anyway. Closing
        # `commands`, which a thread may be reading, would wait for that thread.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Server:
    """The verbs, one method each."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.backend: Backend | None = None
        self.engine: Engine | None = None
        self.library: Library | None = None
        self.streams: Streams | None = None

    def serve(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks for; the result goes into the answer."""
        return getattr(self, f"do_{verb}")(**request)  # type: ignore[no-any-return]

    def do_open(self, **request: Any) -> dict[str, Any]:
        """Name the candidate; see worker/opening.py."""
        from calibration.worker.opening import Opening

        opening = Opening.read(request)
        if opening.job.cpus:
            # Before any engine is imported: their pools of threads look at the affinity only once.
            os.sched_setaffinity(0, opening.job.cpus)
        self.backend = _backend_from_file(opening.source) if opening.source else _backend(opening.backend)
        self.job = opening.job
        return {"pid": os.getpid()}

    def do_checkpoint(self, *, config_dir: str, destination: str, seed: int) -> dict[str, Any]:
        """Write a checkpoint with random weights; needs no `open`."""
        from calibration.checkpoints.random_weights import write_random_checkpoint

        write_random_checkpoint(Path(config_dir), Path(destination), seed)
        return {}

    def do_cut(self, *, source: str, destination: str, cut: str) -> dict[str, Any]:
        """Write the first layers of a checkpoint as a checkpoint of their own; needs no `open`."""
        from calibration.checkpoints.cut import cut_checkpoint
        from calibration.rung import Rung

        cut_checkpoint(Path(source), Path(destination), Rung.parse(cut))
        return {}

    def do_dequantise(self, *, source: str, destination: str) -> dict[str, Any]:
        """Write a quantised checkpoint as the float16 checkpoint that it stands for; needs no `open`."""
        from calibration.checkpoints.dequantise import dequantise

        Path(destination).mkdir()
        dequantise(Path(source), Path(destination))
        return {}

    def do_open_probe(self, **request: Any) -> dict[str, Any]:
        """Import the library that probes this machine; needs no `open`. See probing.measure.opened."""
        from calibration.probing.measure import opened

        self.library = opened(**request)
        return {"versions": self.library.versions, "cache_bytes": self.library.cache_bytes}

    def do_probe(self, **request: Any) -> dict[str, Any]:
        """Measure one part of this machine; see probing.measure.measure."""
        from calibration.probing.measure import measure

        assert self.library is not None
        return measure(self.library, **request)

    def do_prepare(self, *, destination: str) -> dict[str, Any]:
        assert self.backend is not None and self.job is not None
        began = time.perf_counter()
        self.backend.prepare(self.job, Path(destination), lambda line: print(line, flush=True))
        return {"seconds": time.perf_counter() - began}

    def do_load(self) -> dict[str, Any]:
        assert self.backend is not None and self.job is not None
        began = time.perf_counter()
        self.engine = self.backend.load(self.job)
        return {"seconds": time.perf_counter() - began}

    def do_load_streams(self) -> dict[str, Any]:
        """Load the model for requests that come and go; the verb `serve` then takes over the pipes."""
        assert self.backend is not None and self.job is not None
        began = time.perf_counter()
        self.streams = self.backend.streams(self.job)
        abilities = sorted(self.streams.abilities)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "abilities": abilities, "batching": self.streams.batching}

    def take_requests(self, commands: IO[str], events: IO[str]) -> None:
        """Serve requests until the pipe ends; see worker/serving.py."""
        from calibration.worker.serving import serve

        assert self.streams is not None and self.job is not None
        # The engine stays: no collection of garbage needs to look at it again while requests wait.
        gc.collect()
        gc.freeze()
        serve(self.streams, self.job.vocab_size, commands, events)
        self.streams.close()

    def do_refer(self, **request: Any) -> dict[str, Any]:
        """Answer the correctness check's prompts as the reference; see answers.refer."""
        from calibration.worker.answers import refer

        assert self.engine is not None
        return refer(self.engine, **request)

    def do_answer(self, **request: Any) -> dict[str, Any]:
        """Answer the correctness check's prompts as a candidate; see answers.answer."""
        from calibration.worker.answers import answer

        assert self.engine is not None
        return answer(self.engine, lambda group, count: self._generate(group, count)[0], **request)

    def do_sample(self, *, seed: str, prompt_tokens: int, output_tokens: int, batch: int) -> dict[str, Any]:
        """Time one generate call on fresh prompts."""
        from calibration.measurement import timing
        from calibration.worker.prompts import prompts

        assert self.job is not None
        _, arrivals = self._generate(prompts(seed, self.job.vocab_size, prompt_tokens, batch), output_tokens)
        ttft_s, tpot_s = timing(arrivals)
        return {"ttft_s": ttft_s, "tpot_s": tpot_s}

    def do_close(self) -> dict[str, Any]:
        for loaded in (self.engine, self.streams):
            if loaded is not None:
                loaded.close()
        return {}

    def _generate(self, group: list[list[int]], new_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        assert self.engine is not None
        from calibration.backend import StoppedEarly

        generation = self.engine.generate(group, new_tokens)
        lengths = [len(row) for row in generation.tokens]
        if lengths != [new_tokens] * len(group) or [len(row) for row in generation.arrivals] != lengths:
            raise StoppedEarly(f"asked for {new_tokens} tokens of each of {len(group)} prompts; got {lengths}")
        tokens = [list(map(int, row)) for row in generation.tokens]
        return tokens, [list(map(float, row)) for row in generation.arrivals]


def _backend(name: str) -> "Backend":
    from calibration.registry import all_backends

    return all_backends()[name]


def _backend_from_file(source: str) -> "Backend":
    from calibration.backend import Backend

    spec = importlib.util.spec_from_file_location("autobackend_foreign_backend", source)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    backends = [
        t for t in vars(module).values() if isinstance(t, type) and issubclass(t, Backend) and t.__module__ == spec.name
    ]
    return backends[0]()


def _send(events: IO[str], answer: dict[str, Any]) -> None:
    events.write(json.dumps(answer) + "\n")
    events.flush()


def _describe(error: BaseException) -> dict[str, Any]:
    """Type, message, and whether it says that memory ran out or that the engine stopped early."""
    from calibration.backend import StoppedEarly

    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    chain: BaseException | None = error
    out_of_memory = False
    while chain is not None:
        words = f"{type(chain).__name__} {chain}".lower()
        out_of_memory |= isinstance(chain, MemoryError) or any(
            sign in words
            for sign in ("outofmemory", "out of memory", "bad_alloc", "can't allocate memory", "cannot allocate memory")
        )
        chain = chain.__cause__ or chain.__context__
    return {"message": text[:2000], "out_of_memory": out_of_memory, "stopped_early": isinstance(error, StoppedEarly)}


def _die_with_parent(lifeline_fd: int, others: tuple[int, ...]) -> None:
    """Fork a watchdog that kills this process group when the other end of the lifeline closes.

    Only the supervisor holds the other end, so it closes however the supervisor ends, kill -9 included. A thread could
    not watch it: an engine that hangs may hold the interpreter's lock.
    """
    if os.fork() == 0:
        for fd in (0, 1, 2, *others):
            os.close(fd)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.read(lifeline_fd, 1)
        os.killpg(0, signal.SIGKILL)
    os.close(lifeline_fd)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Runs in the backend's own interpreter: one candidate, one process, JSON lines on a pipe.

Started as a script by supervisor.py: `python worker.py COMMANDS EVENTS LIFELINE`, three file descriptors. The
interpreter needs nothing of ours: this folder becomes the package `calibration`, and nothing beside it is put on the
path. Requests are objects with a `verb`; each is answered by one event,
`{"event": "done", ...}` or `{"event": "error", ...}`.
"""

import importlib.util
import json
import os
import random
import signal
import sys
import time
import traceback
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if __package__ in (None, ""):
    _here = Path(__file__).resolve().parent
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _here]
    _spec = importlib.util.spec_from_file_location(
        "calibration", _here / "__init__.py", submodule_search_locations=[str(_here)]
    )
    assert _spec is not None and _spec.loader is not None
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["calibration"] = _package
    _spec.loader.exec_module(_package)

if TYPE_CHECKING:
    from calibration.backend import Backend, Engine, Job

LOWEST_TOKEN = 3
"""Prompts avoid the ids below: padding, beginning and end of text in most vocabularies."""


def prompts(seed: str, vocab_size: int, length: int, count: int) -> list[list[int]]:
    """`count` prompts of `length` random token ids, the same for the same seed on every machine."""
    draw = random.Random(seed)
    lowest = min(LOWEST_TOKEN, vocab_size - 1)
    return [[draw.randrange(lowest, vocab_size) for _ in range(length)] for _ in range(count)]


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
                answer = {"event": "done", **server.serve(verb, request)}
            except Exception as error:  # noqa: BLE001  whatever an engine raises is a result
                answer = {"event": "error", **_describe(error)}
                traceback.print_exc()
            _send(events, answer)
            if verb == "close":
                break
    # An engine's shutdown may hang or abort after all is told; the supervisor kills the group anyway.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class _Server:
    """The verbs, one method each."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.backend: Backend | None = None
        self.engine: Engine | None = None

    def serve(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks for; what it returns goes into the answer."""
        return getattr(self, f"do_{verb}")(**request)  # type: ignore[no-any-return]

    def do_open(
        self, *, backend: str, variant: dict[str, Any], job: dict[str, Any], source: str = ""
    ) -> dict[str, Any]:
        """Name the candidate; `source` is the file of a backend that is not ours."""
        from calibration.backend import Job, Variant

        self.backend = _backend_from_file(source) if source else _backend(backend)
        for name in ("devices", "only_without", "cpu_features"):
            variant[name] = frozenset(variant.get(name, ()))
        folder = job.pop("artifact_dir")
        job["cpus"] = tuple(job.get("cpus", ()))
        if job["cpus"]:
            # Before any engine is imported: their pools of threads look at the affinity only once.
            os.sched_setaffinity(0, job["cpus"])
        self.job = Job(
            **{**job, "model_dir": Path(job["model_dir"])},
            artifact_dir=Path(folder) if folder else None,
            variant=Variant(**variant),
        )
        return {"pid": os.getpid()}

    def do_checkpoint(self, *, config_dir: str, destination: str, seed: int) -> dict[str, Any]:
        """Write a checkpoint with random weights; needs no `open`."""
        from calibration.checkpoint import write_random_checkpoint

        write_random_checkpoint(Path(config_dir), Path(destination), seed)
        return {}

    def do_dequantise(self, *, source: str, destination: str) -> dict[str, Any]:
        """Write a quantised checkpoint as the float16 one that it stands for; needs no `open`."""
        from calibration.dequantise import dequantise

        Path(destination).mkdir()
        dequantise(Path(source), Path(destination))
        return {}

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

    def do_refer(self, *, prompts: list[list[int]], new_tokens: int, rows_file: str) -> dict[str, Any]:
        """Answer as the reference: each prompt's greedy path, and its rows of scores as `do_answer` writes them."""
        assert self.engine is not None
        paths: list[list[int]] = []
        shape: list[int] | None = None
        with Path(rows_file).open("wb") as file:
            for prompt in prompts:
                path, rows = self.engine.score_greedy(prompt, new_tokens)
                paths.append([int(token) for token in path])
                shape = None if rows is None else _write_rows(rows, new_tokens, file)
        return {"paths": paths, "rows": shape}

    def do_answer(
        self,
        *,
        prompts: list[list[int]],
        groups: list[list[int]],
        new_tokens: int,
        continuations: list[list[int]] | None,
        rows_file: str,
        once: Sequence[int] = (),
        told_by_scores: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Generate for each group of prompts (given by number) as one batch; score each prompt along a continuation.

        Without continuations each prompt's own tokens, where it first occurs, are its continuation. With them the
        tokens are what the engine chooses after each prefix of them: where a batch leaves them it is asked again from
        there on. Rows go to `rows_file` as float32 [prompt, new_tokens, vocab].

        Args:
            once: the last prompts, that are long: their paths end where they leave the continuation, and an engine that
                does not score long prompts does not score them.
            told_by_scores: prompts that an engine whose scores are its steps does not generate.
        """
        assert self.engine is not None
        along, tokens = continuations, list[list[list[int]]]()
        if along is None:
            tokens = [self._generate([prompts[i] for i in group], new_tokens)[0] for group in groups]
            first = {
                i: path
                for group, paths in reversed(list(zip(groups, tokens, strict=True)))
                for i, path in zip(group, paths, strict=True)
            }
            along = [first[i][:-1] for i in range(len(prompts))]
        else:
            for group in groups:
                long = bool(set(group) & set(once))
                told = bool(set(group) & set(told_by_scores)) and self.engine.scores_its_steps
                spared = told and (self.engine.scores_long_prompts or not long)
                asked, right = [prompts[i] for i in group], [along[i] for i in group]
                tokens.append([] if spared else self._choices(asked, right, again=not long))
        shape: list[int] | None = None
        best: list[list[int]] = []
        with Path(rows_file).open("wb") as file:
            for number, (prompt, continuation) in enumerate(zip(prompts, along, strict=True)):
                if number in once and not self.engine.scores_long_prompts:
                    break
                rows = self.engine.score(prompt, continuation)
                if rows is None:
                    shape = None
                    break
                best.append([_best(row) for row in rows])
                shape = _write_rows(rows, len(continuation) + 1, file)
        for number, group in enumerate(groups):
            if not tokens[number]:
                asked, right = [prompts[i] for i in group], [along[i] for i in group]
                long = bool(set(group) & set(once))
                tokens[number] = [best[i] for i in group] if shape else self._choices(asked, right, again=not long)
        return {"tokens": tokens, "rows": shape}

    def do_sample(self, *, seed: str, prompt_tokens: int, output_tokens: int, batch: int) -> dict[str, Any]:
        """Time one generate call on fresh prompts."""
        from calibration.measurement import timing

        assert self.job is not None
        asked = prompts(seed, self.job.vocab_size, prompt_tokens, batch)
        _, arrivals = self._generate(asked, output_tokens)
        ttft_s, tpot_s = timing(arrivals)
        return {"ttft_s": ttft_s, "tpot_s": tpot_s}

    def do_close(self) -> dict[str, Any]:
        if self.engine is not None:
            self.engine.close()
        return {}

    def _choices(self, group: list[list[int]], along: list[list[int]], *, again: bool) -> list[list[int]]:
        """The token chosen after each prefix of a continuation, [prompt][step], in one batch.

        A path that equals its continuation answers for all its prefixes in one call; one that leaves it does so up to
        there, and the batch is asked anew after the continuation's own token: for as many as it has just got right and
        one more, since one that leaves it often would compute most tokens in vain.
        """
        steps = wanted = len(along[0]) + 1
        chosen: list[list[int]] = [[] for _ in group]
        while len(chosen[0]) < steps:
            done = len(chosen[0])
            given = [prompt + path[:done] for prompt, path in zip(group, along, strict=True)]
            made, _ = self._generate(given, min(wanted, steps - done))
            same = min(_shared(row, path[done:]) for row, path in zip(made, along, strict=True))
            wanted = same + 1
            for path, tokens in zip(chosen, made, strict=True):
                path.extend(tokens[: same + 1])
            if not again:
                break
        return chosen

    def _generate(self, group: list[list[int]], new_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        assert self.engine is not None
        from calibration.backend import StoppedEarly

        made = self.engine.generate(group, new_tokens)
        got = [len(row) for row in made.tokens]
        if got != [new_tokens] * len(group) or [len(row) for row in made.arrivals] != got:
            raise StoppedEarly(f"asked for {new_tokens} tokens of each of {len(group)} prompts; got {got}")
        return [list(map(int, row)) for row in made.tokens], [list(map(float, row)) for row in made.arrivals]


def _shared(path: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return next((i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a != b), min(len(path), len(other)))


def _backend(name: str) -> "Backend":
    from calibration.registry import all_backends

    return all_backends()[name]


def _backend_from_file(source: str) -> "Backend":
    from calibration.backend import Backend

    spec = importlib.util.spec_from_file_location("autobackend_foreign_backend", source)
    if spec is None or spec.loader is None:
        raise ImportError(f"{source} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    mine = [
        t for t in vars(module).values() if isinstance(t, type) and issubclass(t, Backend) and t.__module__ == spec.name
    ]
    return mine[0]()


def _best(row: Any) -> int:
    """The token with the highest score."""
    if hasattr(row, "argmax"):  # torch, numpy
        return int(row.argmax())
    return max(range(len(row)), key=row.__getitem__)


def _write_rows(rows: Iterable[Any], count: int, file: IO[bytes]) -> list[int]:
    """Write a prompt's rows; returns their number and width.

    Raises:
        ValueError: there are not `count` of one width.
    """
    widths = [_write_row(row, file) for row in rows]
    if len(widths) != count or set(widths) != {widths[0]}:
        raise ValueError(f"score gave rows of {widths} scores; {count} of one width are due")
    return [len(widths), widths[0]]


def _write_row(row: Any, file: IO[bytes]) -> int:
    """Write one row of scores as float32; returns its width."""
    if hasattr(row, "detach"):  # torch
        row = row.detach().float().cpu().contiguous().numpy()
    if hasattr(row, "astype"):  # numpy
        row = row.astype("float32")
        file.write(row.tobytes())
        return int(row.shape[-1])
    values = array("f", row)
    file.write(values.tobytes())
    return len(values)


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

    The supervisor holds that end and nobody else does, so it closes however the supervisor ends, kill -9 included. A
    thread could not do it: an engine that hangs may hold the interpreter's lock.
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

"""Each engine's streams, in a worker: eight requests of many lengths one at a time, and all at once.

`python -m benchmarks.serving.streams MODEL [--backends NAME ...] [--rounds 2] [--out build/streams.json]`

Seven requests are there at the start and one comes late, when a quarter of the time is over that all take one after
another. Told are tokens a second from the start to the last token, and how long the late one waits for its first token.
Each launch times both ways in the order A B B A, and the engines take turns from round to round. The machine must have
nothing else to do: `others` is how many cores were kept busy by processes that are neither the engine nor this one.
"""

import argparse
import json
import queue
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil

from calibration.conversion.convert import Converter, Original
from calibration.conversion.store import ArtifactStore
from calibration.engine.streams import Delta, Finish, OneAfterAnother, Request
from calibration.errors import AutobackendError
from calibration.events import Silent
from calibration.measurement import FailureKind
from calibration.registry import find
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.device_lock import device_lock
from calibration.supervision.launch_spec import LaunchSpec, Limits
from calibration.supervision.readings import busy_s
from calibration.supervision.replies import Trouble
from calibration.supervision.serving import ServingWorker
from calibration.supervision.supervisor import Worker
from calibration.supervision.workers import Workers
from calibration.whole_file import write_whole
from calibration.worker.prompts import prompts
from selector.planning.plan import Plan, plan
from selector.planning.subject import subject_of

PROMPT_TOKENS = (16, 200, 64, 400, 32, 128, 96, 256)
NEW_TOKENS = (48, 24, 64, 32, 64, 40, 24, 32)
"""Of requests as an interactive service gets them; the last is the late one."""
LATE_SHARE = 0.25
AT_ONCE = len(PROMPT_TOKENS)
CONTEXT_TOKENS = 512
ANSWER_S = 600.0
"""An engine that tells nothing for so long is stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All requests once."""

    candidate: str
    batching: str
    round: int
    at_once: int
    tokens_per_s: float
    late_ttft_s: float
    others_cores: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.streams", description=__doc__)
    parser.add_argument("model", help="a shape or a folder with weights")
    parser.add_argument("--backends", nargs="*", default=(), metavar="NAME", help="only these backends or variants")
    parser.add_argument("--rounds", type=int, default=2, help="launches of each engine")
    parser.add_argument("--out", type=Path, default=Path("build/streams.json"))
    arguments = parser.parse_args(argv)
    try:
        planned = plan(arguments.model, backends=arguments.backends)
        with device_lock(planned.host.device.name):
            runs = measure(planned, arguments.rounds)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    content = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "host": f"{planned.host.device.name}, {planned.host.cores} cores used",
        "model": planned.spec.name,
        "runs": [asdict(run) for run in runs],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, json.dumps(content, indent=1) + "\n")
    print("\n".join(table(runs)))
    return 0


def measure(planned: Plan, rounds: int) -> list[Run]:
    """Every engine in each round, in an order that reverses; what fails is said and left out."""
    store, runs = ArtifactStore(), list[Run]()
    subject = subject_of(planned, store, Silent())
    workers = Workers(subject=subject, max_context_tokens=CONTEXT_TOKENS, max_batch=AT_ONCE)
    specs = chosen(planned.launch_specs)
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
        converter = Converter(
            original=Original.of(subject),
            store=store,
            workers=workers,
            reporter=Silent(),
            limit_s=Limits().prepare_s,
            clock=time.monotonic,
        )
        for number in range(rounds):
            for spec in specs if number % 2 == 0 else reversed(specs):
                print(f"round {number + 1}: {spec.label} ...", file=sys.stderr, flush=True)
                log, deadline = (
                    Path(folder) / f"{number}-{spec.label}.log".replace(":", "-"),
                    Deadline(None, time.monotonic),
                )
                log.touch()
                try:
                    artifact = converter.convert(spec, log, deadline) if spec.variant.prepares else None
                    with workers.opened(spec, log, deadline, "serve", artifact.path if artifact else None) as worker:
                        runs += _launch(worker, spec, number, deadline, subject.vocab_size)
                except GivenUp as given_up:
                    print(f"{spec.label} failed: {given_up}", file=sys.stderr)
    return runs


def chosen(candidates: Iterable[LaunchSpec]) -> list[LaunchSpec]:
    """The first exact variant of each kind of streams; an engine that can only generate gains nothing."""
    first: dict[object, LaunchSpec] = {}
    for spec in candidates:
        kind = find(spec.candidate.backend).streams_type(spec.variant)
        if not spec.variant.lossy and kind is not OneAfterAnother:
            first.setdefault(kind, spec)
    return list(first.values())


def _launch(worker: Worker, spec: LaunchSpec, number: int, deadline: Deadline, vocab_size: int) -> list[Run]:
    loaded = deadline.ask(worker, "load", Limits().load_s, "load_streams")
    client = _Client(worker)
    try:
        warm = requests(f"{number} warm-up", vocab_size)
        late_s = LATE_SHARE * client.run(warm, at_once=1, late_s=0.0)[0]
        runs = []
        for turn, at_once in enumerate((1, AT_ONCE, AT_ONCE, 1)):
            asked = requests(f"{number} {turn}", vocab_size)
            began, busy, own = time.monotonic(), busy_s(), _spent_s(worker)
            seconds, late_ttft_s = client.run(asked, at_once=at_once, late_s=late_s)
            others_s = max(0.0, (busy_s() - busy) - (_spent_s(worker) - own))
            runs.append(
                Run(
                    candidate=spec.label,
                    batching=str(loaded.fields["batching"]),
                    round=number,
                    at_once=at_once,
                    tokens_per_s=sum(NEW_TOKENS) / seconds,
                    late_ttft_s=late_ttft_s,
                    others_cores=others_s / (time.monotonic() - began),
                )
            )
        return runs
    finally:
        client.close()


def requests(seed: str, vocab_size: int) -> list[Request]:
    """Fresh prompts, so that no engine has met the beginning of one."""
    return [
        Request(
            id=f"{seed} {number}",
            prompt=tuple(prompts(f"{seed} {number}", vocab_size, prompt_tokens, 1)[0]),
            max_tokens=new_tokens,
        )
        for number, (prompt_tokens, new_tokens) in enumerate(zip(PROMPT_TOKENS, NEW_TOKENS, strict=True))
    ]


class _Client:
    """Sends requests to a worker whose streams are loaded, and notes when tokens come."""

    def __init__(self, worker: Worker) -> None:
        self._come: queue.SimpleQueue[tuple[float, Delta] | Trouble] = queue.SimpleQueue()
        self._serving = ServingWorker(worker, on_deltas=self._note, on_end=self._come.put)
        if (trouble := self._serving.start()) is not None:
            raise GivenUp("serve", trouble)

    def run(self, asked: Sequence[Request], *, at_once: int, late_s: float) -> tuple[float, float]:
        """Have all answered, `at_once` of them at most at a time.

        Args:
            late_s: when the last one is due; the others are at once.

        Returns:
            Seconds to the last token of all; from when the last one was due to its first token.
        """
        due = deque((late_s if request is asked[-1] else 0.0, request) for request in asked)
        running, first_s, last_s = set[str](), dict[str, float](), 0.0
        began = time.perf_counter()
        while due or running:
            free = due and len(running) < at_once
            wait_s = due[0][0] - (time.perf_counter() - began) if free else ANSWER_S
            if wait_s <= 0:
                request = due.popleft()[1]
                running.add(request.id)
                self._serving.add(request)
                continue
            try:
                come = self._come.get(timeout=wait_s)
            except queue.Empty:
                if free:
                    continue
                raise GivenUp(
                    "serve", Trouble(kind=FailureKind.TIMED_OUT, message=f"no token within {ANSWER_S:g} s")
                ) from None
            if isinstance(come, Trouble):
                raise GivenUp("serve", come)
            at, delta = come
            last_s = at - began
            first_s.setdefault(delta.id, last_s)
            if delta.finish is not None:
                running.remove(delta.id)
            if delta.finish is Finish.ERROR:
                raise GivenUp("serve", Trouble(kind=FailureKind.CRASHED, message=delta.message))
        return last_s, first_s[asked[-1].id] - late_s

    def close(self) -> None:
        """Ends the worker, which must be read no more when its owner leaves it."""
        self._serving.kill()

    def _note(self, deltas: Sequence[Delta]) -> None:
        at = time.perf_counter()
        for delta in deltas:
            self._come.put((at, delta))


def _spent_s(worker: Worker) -> float:
    """CPU seconds of the worker's tree and of this process so far."""
    root = psutil.Process(worker.pid)
    times = [process.cpu_times() for process in (psutil.Process(), root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def table(runs: Sequence[Run]) -> list[str]:
    """A line for each engine: medians of its runs, with the least and the most."""
    head = (
        "engine",
        "batching",
        "tok/s, one at a time",
        f"tok/s, {AT_ONCE} at once",
        "gain",
        "late TTFT",
        "",
        "others",
    )
    shown: list[tuple[str, ...]] = [head]
    for candidate in dict.fromkeys(run.candidate for run in runs):
        own = [run for run in runs if run.candidate == candidate]
        ways = [[run for run in own if run.at_once == at_once] for at_once in (1, AT_ONCE)]
        rates = [[run.tokens_per_s for run in way] for way in ways]
        waits = [f"{1000 * median(run.late_ttft_s for run in way):.0f} ms" for way in ways]
        shown.append((
            candidate,
            own[0].batching,
            *(f"{median(rate):.1f} ({min(rate):.1f} to {max(rate):.1f})" for rate in rates),
            f"x{median(rates[1]) / median(rates[0]):.2f}",
            waits[0],
            f"-> {waits[1]}",
            f"{max(run.others_cores for run in own):.2f} cores",
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in shown) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in shown]


if __name__ == "__main__":
    raise SystemExit(main())

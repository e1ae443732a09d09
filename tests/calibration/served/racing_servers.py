"""A race of servers that do what a script says: checked by the scripted engine, with scripted points."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.launch.reference import reference_of
from calibration.load.load import Load
from calibration.load.sample import NoPoint, Point
from calibration.race.bounds import Bounds
from calibration.served.place import AtOnce, Hold, NeverReady, Server, Serving, Untold, Wanted
from calibration.served.race import race_served
from calibration.served.tally import ServedTally
from calibration.supervision.launch_spec import LaunchSpec
from tests.calibration.points import C4, point, replayed, trace_of
from tests.calibration.race.recording import Recorder
from tests.calibration.tiny_engines.racing import entry, subject, workshop_in
from tests.calibration.tiny_engines.scripted import VOCAB, next_token

HOLD = Hold(slots=4, context_tokens=24, threads=2)

TRACE = trace_of(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenServer:
    """A server that nobody asks: points are scripted."""

    spec: LaunchSpec
    hold: Hold
    url: str = "http://127.0.0.1:9"
    key: str = ""
    served_name: str = "model"
    pid: int = 0
    load_s: float = 0.5

    def ended(self) -> str:
        return ""


@dataclass(slots=True, kw_only=True)
class Script:
    """What each candidate does: tokens a second of the load, or why it has none."""

    tps: Mapping[str, float | NeverReady | NoPoint]
    """By the variant's name, and by that with its threads: `quick`, `quick/1`."""
    started: list[tuple[str, int, int]] = field(default_factory=list)
    """Variant, slots and threads of each server."""
    loaded: list[tuple[str, str]] = field(default_factory=list)
    open: int = 0

    @contextmanager
    def start(self, spec: LaunchSpec, hold: Hold, log: Path) -> Iterator[Server]:
        self.started.append((spec.candidate.variant, hold.slots, hold.threads))
        log.write_text("loading\n")
        told = self.tps[spec.candidate.variant]
        if isinstance(told, NeverReady):
            raise told
        self.open += 1
        try:
            yield OpenServer(spec=spec, hold=hold)
        finally:
            self.open -= 1

    void: dict[str, str] = field(default_factory=dict)
    """Variant: why its points are void."""
    answers: Mapping[str, Callable[[Wanted], Sequence[int]] | Untold] = field(default_factory=dict)
    """Variant, or that with its slots: what it answers as it is served; of the others what is right."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Variant and number of the requests at once."""

    def ask(self, server: Server, asked: AtOnce, _limit_s: float) -> Sequence[tuple[int, ...]] | Untold:
        assert isinstance(server, OpenServer)
        assert self.open == 1, "the server is up"
        name = server.spec.candidate.variant
        every = [*([asked.running] if asked.running else []), *asked.first, *asked.late]
        self.asked.append((name, len(every)))
        answer = self.answers.get(f"{name}/{server.hold.slots}", self.answers.get(name, counted))
        return answer if isinstance(answer, Untold) else [tuple(answer(one)) for one in every]

    def measure(self, server: Server, load: Load, _limit_s: float | None) -> Point | NoPoint:
        assert isinstance(server, OpenServer)
        assert self.open == 1, "one server at a time"
        name = server.spec.candidate.variant
        self.loaded.append((name, load.label))
        told = self.tps.get(f"{name}/{server.hold.threads}", self.tps[name])
        if isinstance(told, NoPoint):
            return told
        assert isinstance(told, float)
        if load.trace:
            return replayed(TRACE, tpot_s=1.0 / told)
        return point(load, tps=told * load.streams / 4, ttft_s=0.01, void=self.void.get(name, ""))


def counted(wanted: Wanted) -> list[int]:
    """What the scripted engine generates."""
    tokens = list(wanted.prompt)
    for _ in range(wanted.new_tokens):
        tokens.append(next_token(tokens))
    return tokens[len(wanted.prompt) :]


def off_by_one(wanted: Wanted) -> list[int]:
    """Right but for the last token of those that are asked for three."""
    tokens = counted(wanted)
    return [*tokens[:-1], (tokens[-1] + 1) % VOCAB] if wanted.new_tokens == 3 else tokens


def served(
    folder: Path,
    script: Script,
    *entries: LaunchSpec,
    loads: tuple[Load, ...] = (C4,),
    bounds: Bounds | None = None,
    recorder: Recorder | None = None,
    again: bool = False,
    fewer_threads: bool = True,
    levels: bool = True,
    judge: LaunchSpec | None = None,
    full: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> ServedTally:
    """A race of the scripted engine's candidates, checked by it and with scripted points."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    serving = Serving(
        loads=loads,
        hold=HOLD,
        start=script.start,
        measure=script.measure,
        ask=script.ask,
        value=lambda one, _memory: 1.0 / (one.output_tps or 1e-9),
        fewer_threads=fewer_threads,
        levels=levels,
        full=full,
    )
    with Cache.open(folder / "cache.db") as cache:
        return race_served(
            entries,
            subject(model),
            serving,
            replace(workshop_in(folder, cache, recorder or Recorder()), clock=clock),
            reference=reference_of(judge or entry("reference")),
            bounds=bounds or Bounds(rounds=2),
            again=again,
        )


def kept(folder: Path) -> list[object]:
    with Cache.open(folder / "cache.db") as cache:
        return list(cache.all())

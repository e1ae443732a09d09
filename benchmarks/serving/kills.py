"""Kills the engine of a served model again and again while eight streams ask: is a request ever lost without a word?

`python -m benchmarks.serving.kills MODEL [--minutes 10] [--backend NAME] [--load pp64:tg64:c8] [--seed 0]`

The model is served by `autobackend serve`. Kills are SIGKILLs to a child of that process, at random times while it
answers; one that loads is left alone, since a server gives up an engine that dies at three loads in a row. The pause
before a restart doubles from kill to kill, from 1 s to 60 s, so ten minutes are a dozen kills at most.

Told are what became of each request, how soon a kill was told by a 503, how long until answers came again, and what is
left running at the end. The exit code is 1 where a request was lost without a word, the engine did not come back, or a
process is left.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import psutil

from benchmarks.measuring.judge.served import serving
from benchmarks.serving.aftermath import Kill, Outcome, Tried, counts, kills_of, outcome_of, table
from calibration.errors import AutobackendError, UsageError
from calibration.load.client.ask import Address, Answer, ask
from calibration.load.client.draws import Planned, plan, prompt_ids
from calibration.load.client.load_spec import LoadSpec, body
from calibration.load.load import Load
from calibration.load.run import LoadedServer
from calibration.whole_file import write_whole
from selector.model.spec import ModelSpec

LOAD: Final = "pp64:tg64:c8"
STEADY_S: Final = (1.0, 10.0)
"""A kill comes so long after the engine answered again: while all streams run, and at any moment of an answer."""
AGAIN_S: Final = 600.0
"""An engine that does not answer for so long after a kill will not come back."""
ANSWER_S: Final = 120.0
"""A request whose answer has no end after so long is lost."""
PAUSE_S: Final = 0.1
"""A stream whose request failed asks again after this, so times to the first answer are known to it."""
LOOK_S: Final = 0.25
GONE_S: Final = 5.0
"""How long after the server's end its processes may take to go."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    out: Path = arguments.out
    log = out.with_suffix(".log")
    try:
        load = Load.parse(arguments.load)
        if not load.closed:
            raise UsageError(f"needs a closed loop such as {LOAD}; found {load.label}")
        vocab_size = ModelSpec.read(arguments.model).vocab_size
        family: set[psutil.Process] = set()
        words = ["--slots", str(load.streams), *(["--backend", arguments.backend] if arguments.backend else [])]
        with serving(arguments.model, words, vocab_size=vocab_size, log=log) as served:
            chaos = Chaos(served, load, seed=str(arguments.seed), family=family)
            asyncio.run(chaos.run(60 * arguments.minutes))
        left = left_running(family)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    counted, kills = counts(chaos.tried), kills_of(chaos.killed_s, chaos.tried)
    content = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "model": arguments.model,
        "backend": arguments.backend,
        "load": load.label,
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "requests": counted,
        "kills": [asdict(kill) for kill in kills],
        "left": left,
        "errors": sorted({each.error for each in chaos.tried if each.error}),
    }
    write_whole(out, json.dumps(content, indent=1) + "\n")
    print("\n".join(table(counted, kills, left)))
    return int(failed(counted[Outcome.LOST], kills, left))


def failed(lost: int, kills: Sequence[Kill], left: Sequence[str]) -> bool:
    """Whether the server did not do what it promises: every request told, the engine back, nothing left."""
    return bool(lost or left) or not kills or any(kill.answered_after_s is None for kill in kills[:-1])


class Chaos:
    """A server that is asked by streams while its engine is killed.

    Args:
        family: takes all processes of the server that were seen.
    """

    def __init__(self, served: LoadedServer, load: Load, *, seed: str, family: set[psutil.Process]) -> None:
        self.tried: list[Tried] = []
        self.killed_s: list[float] = []
        """When; the seconds since the load began."""
        self._served, self._load, self._seed = served, load, seed
        self._address = Address.of(served.url, "/v1/completions", served.key)
        self._requests, self._random = plan(load, seed), random.Random(f"{seed} kills")
        self._spec = LoadSpec(
            url=served.url,
            model=served.model,
            vocab_size=served.vocab_size,
            fields=served.fields,
            load=load,
            seed=seed,
            prompt_seed=seed,
            requests=0,
            budget_s=0.0,
            patience_s=ANSWER_S,
        )
        [server] = served.pids
        self._server, self._family = psutil.Process(server), family
        self._began, self._over = 0.0, False

    async def run(self, seconds: float) -> None:
        """Ask and kill for so long, then wait for what was asked.

        Raises:
            AutobackendError: the server ended, or did not answer any more.
        """
        self._began = time.monotonic()
        streams = [asyncio.ensure_future(self._stream()) for _ in range(self._load.streams)]
        others = {asyncio.ensure_future(self._kill_again_and_again()), asyncio.ensure_future(self._watch())}
        try:
            done, _ = await asyncio.wait({*others, *streams}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._over = True
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await asyncio.gather(*streams)

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def _stream(self) -> None:
        while not self._over:
            planned = next(self._requests)
            answer = await self._asked(planned)
            self.tried.append(
                Tried(
                    sent_s=answer.sent_s, ended_s=self._now(), outcome=outcome_of(answer), error=_reason(answer.error)
                )
            )
            if answer.error:
                await asyncio.sleep(PAUSE_S)

    async def _asked(self, planned: Planned) -> Answer:
        answer = Answer(number=planned.number, prompt_tokens=planned.prompt_tokens, output_tokens=planned.output_tokens)
        prompt = prompt_ids(self._seed, planned.number, planned.prompt_tokens, self._served.vocab_size)
        request = json.dumps(body(self._spec, prompt, planned.output_tokens)).encode()
        try:
            async with asyncio.timeout(ANSWER_S):
                await ask(self._address, request, answer, self._now)
        except TimeoutError:
            answer.error = f"no end came within {ANSWER_S:g} s"
        return answer

    async def _kill_again_and_again(self) -> None:
        while True:
            await self._until_answered()
            await asyncio.sleep(self._random.uniform(*STEADY_S))
            self._note()
            for engine in self._server.children():
                engine.send_signal(signal.SIGKILL)
            self.killed_s.append(self._now())
            print(f"{self.killed_s[-1]:.1f} s: killed", file=sys.stderr, flush=True)

    async def _until_answered(self) -> None:
        """Wait for a whole answer to a request that was sent after the last kill."""
        since_s, deadline = (self.killed_s or [0.0])[-1], time.monotonic() + AGAIN_S
        while not any(each.outcome is Outcome.WHOLE and each.sent_s >= since_s for each in reversed(self.tried)):
            if time.monotonic() > deadline:
                raise AutobackendError(f"no answer came for {AGAIN_S:g} s after a kill", "see the log beside --out")
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        """Note every process of the server, so that it is missed at the end if it is left.

        Raises:
            AutobackendError: the server itself ended.
        """
        while True:
            if not self._server.is_running() or self._server.status() == psutil.STATUS_ZOMBIE:
                raise AutobackendError("autobackend serve ended", "see the log beside --out")
            self._note()
            await asyncio.sleep(LOOK_S)

    def _note(self) -> None:
        self._family.update([self._server, *self._server.children(recursive=True)])


def left_running(family: set[psutil.Process]) -> list[str]:
    """Those that still run some seconds after the end, by id and name."""
    _, alive = psutil.wait_procs(list(family), timeout=GONE_S)
    return list(_named(alive))


def _named(processes: Sequence[psutil.Process]) -> Iterator[str]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield f"{process.pid} {process.name()}"


def _reason(error: str) -> str:
    """An error without the lines that the engine printed."""
    return error.partition("\n")[0]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.kills", description=__doc__)
    parser.add_argument("model", help="what `autobackend serve` takes")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--backend", default="", metavar="NAME", help="else the best one")
    parser.add_argument("--load", default=LOAD, help=f"a closed loop ({LOAD})")
    parser.add_argument("--seed", type=int, default=0, help="of lengths, prompts and times of the kills")
    parser.add_argument("--out", type=Path, default=Path("build/kills.json"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

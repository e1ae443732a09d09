"""The load client, a process of its own: sends a load over HTTP, and tells when each chunk of each answer came.

`load/run.py` starts it with `-m`. It reads one LoadSpec from stdin, which it then keeps open: when that ends, its
parent is gone, and so is it. It tells `steady` and `ended` when the window of the sample begins and ends, and then
`result` or `failed`. Standard library only: it shares the cores with the engine that it measures, so it must be small.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import threading
from typing import Any

from calibration.codec import from_plain, to_plain
from calibration.errors import UsageError
from calibration.load.client.ask import Answer
from calibration.load.client.course import OPEN_DISCARD, Course
from calibration.load.client.draws import Planned, plan
from calibration.load.client.load_spec import LoadSpec, Ran
from calibration.load.client.requests import Requests, Unmeasurable, answer_to
from calibration.load.sample import End

LOOK_S = 0.2
"""How often the course is looked at beside each end of an answer."""
PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""A stream of a closed loop whose request failed waits before the next, each time twice as long: a server that refuses
at once would else be asked thousands of times a second."""
FAILURES_MOST = 20
"""Requests that fail one after another before the load is given up."""
BUSY = (429, 503)
"""Statuses of a server that has too many requests."""


def main() -> None:
    """Run the load of the spec on stdin."""
    spec = from_plain(LoadSpec, json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection for each request, and they may pile up
    gc.disable()  # a collection would take milliseconds once there are thousands of times
    try:
        ran = asyncio.run(_Client(spec).run())
    except (Unmeasurable, UsageError) as failed:
        _tell("failed", reason=str(failed))
    else:
        _tell("result", ran=to_plain(ran))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin: a thread that waits in its buffer breaks the end of the interpreter
    os._exit(1)


def _tell(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class _Client:
    """One load."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._requests = Requests(spec, self._now)
        self._planned = plan(spec.load, spec.seed, spec.arrivals)
        self._answers: list[Answer] = []
        self._failures = 0
        """Requests that have failed since the last one that did not."""
        self._refused = ""
        """Why the server would not take the last request of an open loop, where it has too many."""
        self._in_flight = 0
        self._over = asyncio.Event()
        self._began = 0.0
        self._course = self._course_of(spec.budget_s)
        self._told_steady = False

    async def run(self) -> Ran:
        """Warm up, load, and tell.

        Raises:
            Unmeasurable: nothing could be measured.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        await self._requests.reach()
        self._began = came
        await self._requests.warm_up()
        self._began = loop.time()
        left_s = self._spec.budget_s - (self._began - came)
        if left_s <= 0:
            raise Unmeasurable(f"the warm-up took the whole budget of {self._spec.budget_s:g} s")
        self._course = self._course_of(left_s)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._look(left_s + self._spec.patience_s))
            await (self._closed(group) if self._spec.load.closed else self._open(group))
            watch.cancel()
        return self._ran()

    def _course_of(self, budget_s: float) -> Course:
        spec = self._spec
        return Course(
            requests=spec.requests,
            budget_s=budget_s,
            targets=spec.targets,
            slots=spec.slots,
            steady=not spec.load.trace,
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _closed(self, group: asyncio.TaskGroup) -> None:
        """Each stream asks, waits for its answer, and asks again."""
        fresh = set(range(self._spec.load.streams))
        if self._spec.whole:
            self._open_window(0.0)

        async def stream(place: int) -> None:
            failed = 0
            while not self._over.is_set() and not (self._spec.whole and self._course.end is not None):
                planned = next(self._planned)
                answer = await self._ask(planned, self._requests.body(planned))
                fresh.discard(place)
                if not fresh:
                    self._open_window(self._now())
                failed = failed + 1 if answer.error else 0
                if failed:
                    await self._sleep(min(LONGEST_PAUSE_S, PAUSE_S * 2 ** (failed - 1)))

        await self._until_over([group.create_task(stream(place)) for place in sorted(fresh)])

    async def _open(self, group: asyncio.TaskGroup) -> None:
        """Each request goes out when it is due, whatever became of the ones before."""
        discard = 0 if self._spec.whole or self._spec.load.trace else OPEN_DISCARD
        tasks: set[asyncio.Task[Answer]] = set()
        for planned in self._planned:
            assert planned.due_s is not None
            request = self._requests.body(planned)  # before it is due
            await self._sleep(planned.due_s - self._now())
            if self._over.is_set() or (self._spec.whole and self._course.end is not None):
                break
            if planned.number >= discard:
                self._open_window(planned.due_s)
            task = group.create_task(self._ask(planned, request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(0)  # it goes out now, also where the next one is due already
        else:
            self._course.end = self._course.end or End.TRACE
        await self._until_over(tasks)

    async def _ask(self, planned: Planned, request: bytes) -> Answer:
        answer = answer_to(planned)
        self._answers.append(answer)
        self._course.sent(answer, self._now(), self._in_flight)
        self._in_flight += 1
        try:
            await self._requests.send(request, answer)
        finally:
            self._in_flight -= 1
        self._course.answered(answer)
        self._failures = self._failures + 1 if answer.error else 0
        self._refused = answer.error if answer.status in BUSY and not self._spec.load.closed else ""
        self._judge()
        return answer

    async def _look(self, most_s: float) -> None:
        """Look at the course now and then: time passes also where no answer ends."""
        while self._now() < most_s:
            await asyncio.sleep(LOOK_S)
            self._judge()
        self._end()

    def _judge(self) -> None:
        self._course.look(self._now())
        if self._failures >= FAILURES_MOST and self._refused:
            self._course.stop(f"the server refuses: {self._refused}")
        if self._course.over or self._failures >= FAILURES_MOST:
            self._end()

    def _open_window(self, at_s: float) -> None:
        self._course.open(at_s)
        if not self._told_steady:
            self._told_steady = True
            _tell("steady")

    def _end(self) -> None:
        if not self._over.is_set():
            self._ended_s = self._now()
            _tell("ended")
            self._over.set()

    async def _sleep(self, seconds: float) -> None:
        """Until then, or until all is over."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), seconds)

    async def _until_over(self, tasks: "set[asyncio.Task[Answer]] | list[asyncio.Task[None]]") -> None:
        await self._over.wait()
        for task in list(tasks):
            task.cancel()

    def _ran(self) -> Ran:
        course = self._course
        answered = [answer for answer in course.sample if answer.done and not answer.error]
        if (self._failures >= FAILURES_MOST and not course.saturated) or (
            course.sample and not answered and not course.saturated
        ):
            errors = [answer.error for answer in self._answers if answer.error]
            raise Unmeasurable(errors[-1] if errors else f"no answer ended within {self._ended_s:.0f} s")
        if course.opened_s is None or not course.sample or course.end is None:
            raise Unmeasurable(
                f"the budget of {self._spec.budget_s:g} s ended before the load was steady:"
                f" {sum(answer.done for answer in self._answers)} answers"
            )
        ends = [answer.chunks_s[-1] for answer in answered]
        return Ran(
            asked=tuple(answer.asked() for answer in self._answers),
            begin_s=round(course.opened_s, 5),
            end_s=round(self._ended_s if course.saturated else max(ends), 5),
            end=course.end,
            saturated=course.saturated,
            text_prompts=self._requests.of_words,
        )


if __name__ == "__main__":
    main()

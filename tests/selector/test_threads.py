"""select() and explain() from many threads: the answers of one, while launches are added beside them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import Measurement
from selector.answer import Selection
from selector.context import Context
from selector.demand.demand import Demand, DemandOptions
from selector.explanation import explain
from selector.memo import Memo
from selector.selection import choose
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA
from tests.selector.launches import rounds

T = TypeVar("T")

THREADS = 8
WORKLOADS = ("pp100:tg11:b2", "pp500:tg32:b4")
OPTIONS: tuple[DemandOptions, ...] = ({}, {"objective": "ttft"}, {"backend": "transformers"})
LAUNCHES: list[Measurement] = [
    launch
    for number, times in enumerate([(9.0, 7.0, 5.0), (4.0, 6.0, 5.0), (3.0, 2.0, 2.5), (1.0, 0.5, 0.7)])
    for label, time in zip((SDPA, EAGER, CT2), times, strict=True)
    for launch in rounds(label, KEY, HOST, (time,), calibration=f"c{number}")
]
"""In this order they change the answer again and again."""


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


def at_once(work: Callable[[int], T]) -> list[T]:
    """What `work` gives in each of the threads, which begin together; an error of one is an error."""
    start = threading.Barrier(THREADS)

    def begin(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(begin, range(THREADS)))


def demand(workload: str, options: DemandOptions) -> Demand:
    return Demand.of(Demand.of(workload=workload), **options)


def told(selection: Selection) -> tuple[object, ...]:
    answer = selection.to_json()
    for read in answer["caches"]:
        del read["location"]  # the thread that was alone had a cache of its own
    return answer, selection.warnings, selection.notes


def expected(folder: Path) -> dict[tuple[str, int], list[tuple[object, ...]]]:
    """Workload and options: what one thread alone is told after each launch, one launch more each time."""
    alone, answers = Context(), dict[tuple[str, int], list[tuple[object, ...]]]()
    with Cache.open(folder / "alone.db") as cache:
        for count in range(len(LAUNCHES) + 1):
            cache.add(*LAUNCHES[:count])
            for workload in WORKLOADS:
                for which, options in enumerate(OPTIONS):
                    answer = choose(MODEL, demand(workload, options), cache=cache, host=HOST, context=alone)
                    answers.setdefault((workload, which), []).append(told(answer))
    return answers


def asked(number: int, cache: Cache | Path, context: Context, stop: threading.Event) -> list[tuple[str, int, object]]:
    """Every question again and again, until launches are no longer added, and then once more."""
    answers: list[tuple[str, int, object]] = []
    last = False
    while True:
        for workload in WORKLOADS[number % 2 :] + WORKLOADS[: number % 2]:
            for which, options in enumerate(OPTIONS):
                answer = choose(MODEL, demand(workload, options), cache=cache, host=HOST, context=context)
                answers.append((workload, which, told(answer)))
        if last:
            return answers
        last = stop.is_set()
        time.sleep(0.005)  # a process that adds launches needs a core, too


def add_slowly(add: Callable[[Measurement], object], stop: threading.Event) -> None:
    try:
        for launch in LAUNCHES:
            add(launch)
            time.sleep(0.01)
    finally:
        stop.set()


def compare(answers: list[list[tuple[str, int, object]]], due: dict[tuple[str, int], list[tuple[object, ...]]]) -> None:
    """Each thread was told what one alone is told after so many launches, never of fewer than before, at last all."""
    for of_thread in answers:
        for question, known in due.items():
            heard = [answer for workload, which, answer in of_thread if (workload, which) == question]
            counts = [known.index(answer) for answer in heard]  # type: ignore[arg-type]  # ValueError: nobody is told so
            assert counts == sorted(counts)
            assert heard[-1] == known[-1]


@pytest.mark.parametrize("whose", ["the cache that is read", "a cache of its own"])
def test_answers_are_those_of_one_thread_while_another_adds_launches(tmp_path: Path, whose: str) -> None:
    due = expected(tmp_path)
    assert len({str(answer) for answers in due.values() for answer in answers}) > 3 * len(LAUNCHES)
    path, stop = tmp_path / "cache.db", threading.Event()
    with Context() as context, Cache.open(path) as own:
        cache = context.open(path) if whose == "the cache that is read" else own
        adding = threading.Thread(target=add_slowly, args=(cache.add, stop))
        adding.start()
        answers = at_once(lambda number: asked(number, path, context, stop))
        adding.join()
    compare(answers, due)


def test_answers_are_those_of_one_thread_while_a_process_adds_launches(tmp_path: Path) -> None:
    due = expected(tmp_path)
    path, stop = tmp_path / "cache.db", threading.Event()
    code = (
        "import sys\n"
        "from calibration.cache.cache import Cache\n"
        "lines = [*open(sys.argv[2])]\n"
        "with Cache.open(sys.argv[1]) as cache:\n"
        "    for line in lines[1:]:\n"
        "        cache.import_([lines[0], line])\n"
    )
    with Cache.open(tmp_path / "all.db") as cache, (tmp_path / "rows.jsonl").open("w") as file:
        cache.add(*LAUNCHES)
        cache.export(file)

    def add() -> None:
        try:
            command = [sys.executable, "-c", code, str(path), str(tmp_path / "rows.jsonl")]
            subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
        finally:
            stop.set()

    with Context() as context:
        adding = threading.Thread(target=add)
        adding.start()
        answers = at_once(lambda number: asked(number, path, context, stop))
        adding.join()
    compare(answers, due)


def test_what_is_shared_is_made_once(tmp_path: Path) -> None:
    """One open cache, one host: not one for each thread that comes first."""
    with Context() as context:
        caches = at_once(lambda _: context.open(tmp_path / "cache.db"))
        hosts = at_once(lambda _: context.host())
    assert len({id(cache) for cache in caches}) == 1
    assert len({id(host) for host in hosts}) == 1


def test_contexts_share_nothing(tmp_path: Path) -> None:
    with Context() as one, Context() as other:
        assert one.open(tmp_path / "cache.db") is not other.open(tmp_path / "cache.db")
        assert one.model(MODEL) is not other.model(MODEL)
        assert one.model(MODEL) is one.model(MODEL)


def test_explain_is_the_same_from_every_thread() -> None:
    alone = explain(MODEL, host=HOST, context=Context()).to_json()
    with Context() as context:
        assert at_once(lambda _: explain(MODEL, host=HOST, context=context).to_json()) == [alone] * THREADS


def test_a_file_that_is_replaced_while_it_is_read_is_read_anew(tmp_path: Path) -> None:
    """Another connection is opened for the new file while other threads use the old one's."""
    path = tmp_path / "cache.db"
    for number, launch in enumerate(LAUNCHES[:2]):
        with Cache.open(tmp_path / f"{number}.db") as cache:
            cache.add(launch)
    stop = threading.Event()
    key = {"architecture": KEY.architecture, "quant": KEY.quant, "device": KEY.device}

    def replace() -> None:
        try:
            for turn in range(60):
                copy = tmp_path / "copy.db"
                copy.write_bytes((tmp_path / f"{turn % 2}.db").read_bytes())
                os.replace(copy, path)  # noqa: PTH105  as a restored backup comes
                time.sleep(0.002)
        finally:
            stop.set()

    def read(_: int) -> set[str]:
        labels: set[str] = set()
        while not stop.is_set():
            labels |= {outcome.candidate.label for outcome in cache.find(**key)}
        return labels

    with Cache.open(path) as cache:
        replacing = threading.Thread(target=replace)
        replacing.start()
        heard = at_once(read)
        replacing.join()
    assert set().union(*heard) <= {launch.candidate.label for launch in LAUNCHES[:2]}
    assert set().union(*heard)


def test_a_memo_forgets_the_oldest_whoever_asks() -> None:
    memo, owner = Memo(3), object()

    def ask(number: int) -> list[int]:
        return [memo.answer(key % 7, (owner,), lambda key=key: key % 7) for key in range(number, number + 2000)]  # type: ignore[misc]

    for number, answers in enumerate(at_once(ask)):
        assert answers == [key % 7 for key in range(number, number + 2000)]
    assert memo.answer(99, (owner,), lambda: "made") == memo.answer(99, (owner,), lambda: "made anew") == "made"

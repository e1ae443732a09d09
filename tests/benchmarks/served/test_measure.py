"""The study of served loads: who is worth a server, and how a budget is dealt."""

from pathlib import Path

import pytest

from benchmarks.served.measure import Stage, Turn, measure, share_s, turns_of
from benchmarks.served.task import Kind, Task, hopeless, kind_of, read_task
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.supervision.deadline import Deadline
from tests.benchmarks.served.planted import C1, C4, C8
from tests.selector.answering import EAGER, HOST, KEY, MODEL, SDPA, SPEC
from tests.selector.launches import rounds, served


def test_one_of_each_kind_is_served_unless_it_is_hopeless() -> None:
    paged = Kind(backend="a", batching="continuous", lossy=False)
    serial = Kind(backend="a", batching="none", lossy=False)
    rounded = Kind(backend="a", batching="continuous", lossy=True)
    slow = Kind(backend="b", batching="static", lossy=False)
    kinds = {"a:p1": paged, "a:p2": paged, "a:s": serial, "a:int8": rounded, "b:x": slow, "b:y": slow}
    seconds = {
        "a:p1": (2.0, 4.0),
        "a:p2": (3.0, 2.0),
        "a:s": (1.0, 8.0),
        "a:int8": (0.5, 1.0),
        "b:x": (4.0, 7.0),
        "b:y": (5.0, 9.0),
    }
    # a:p2 does better than a:p1 at both together. b:x takes 4 times as long as the best alone, 3.5 times in the batch.
    assert hopeless(seconds, kinds) == pytest.approx({"a:p1": 2.0, "b:x": 3.5, "b:y": 4.5})
    # The lossy one is no rival of the others: b:x stays where only that is so much faster.
    assert hopeless({"a:int8": (0.5,), "b:x": (4.0,)}, kinds) == {}
    assert hopeless({"a:int8": (4.0,), "b:x": (1.0,)}, kinds) == {"a:int8": 4.0}


def test_a_task_has_the_candidates_that_are_worth_a_server(cache: Cache) -> None:
    task = read_task(MODEL, (C8, C1), cache, host=HOST)
    served_labels = [spec.label for spec in task.plan.launch_specs]
    kinds = [kind_of(label) for label in served_labels]
    assert len(set(kinds)) == len(kinds) >= 3
    assert task.left_out
    assert {kind.lossy for kind in kinds} == {True, False}
    assert task.plan.demand.loads == (C8, C1)
    named = read_task(MODEL, (C8, C1), cache, backends=["transformers"], host=HOST)
    assert {spec.label for spec in named.plan.launch_specs} >= {SDPA, EAGER}
    assert named.left_out == {}


def test_a_budget_is_dealt_by_what_turns_take(cache: Cache) -> None:
    small = read_task(MODEL, (C8, C1), cache, host=HOST)
    large = read_task("shape:qwen2.5-0.5b", (C8, C1), cache, host=HOST)
    turns = turns_of([small, large])
    assert [(turn.task is small, turn.stage) for turn in turns] == [
        (is_small, stage) for stage in (Stage.FIRST, Stage.SECOND, Stage.REST) for is_small in (True, False)
    ]
    first = Turn(task=small, stage=Stage.FIRST)
    assert share_s([first, Turn(task=small, stage=Stage.SECOND)], 90.0) == pytest.approx(60.0)
    assert share_s([Turn(task=small, stage=Stage.REST)], 90.0) == 90.0, "what is left over"
    assert share_s([first], 90.0) == 90.0
    assert share_s(turns, None) is None
    both = share_s([first, Turn(task=large, stage=Stage.FIRST)], 100.0)
    assert both is not None
    assert 30.0 < both < 40.0, "a quarter of the parameters, about half of the other's seconds"


@pytest.fixture
def tasks(tmp_path: Path, cache: Cache) -> list[Task]:
    """A model that seems to have weights; nothing reads them, since all that is due was served."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((SPEC.folder / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(bytes(8))
    return [read_task(str(folder), (C8, C4, C1), cache, backends=[SDPA, EAGER], host=HOST)]


def measured(tasks: list[Task], cache: Cache, tmp_path: Path, *, left_s: float) -> tuple[list[str], list[str]]:
    """What is said, and what is missing."""
    said = list[str]()
    store = ArtifactStore(tmp_path / "artifacts")
    deadline = Deadline(left_s, lambda: 0.0)
    missing = measure(tasks, cache, store, Silent(), deadline, requests=4, say=said.append)
    return said, missing


def test_what_was_served_is_not_served_again(tasks: list[Task], cache: Cache, tmp_path: Path) -> None:
    name = tasks[0].plan.spec.name
    tps = {C8.label: 160.0, C4.label: 100.0, C1.label: 50.0}
    for label in (SDPA, EAGER):
        for number in (1, 2):
            cache.add(served(label, tasks[0].plan.identity, HOST, tps, round_=number, ttft_s=0.02, model=name))
    said, missing = measured(tasks, cache, tmp_path, left_s=600.0)
    assert [line.split(" in ")[0] for line in said] == [
        f"{name}, first round: 0 launches",
        f"{name}, second round: 0 launches",
    ], "nobody is left"
    assert missing == []


def test_what_a_budget_left_out_is_named(tasks: list[Task], cache: Cache, tmp_path: Path) -> None:
    name = tasks[0].plan.spec.name
    assert measured(tasks, cache, tmp_path, left_s=0.0) == (
        [],
        [
            f"{name}: never served within the budget: {SDPA}, {EAGER}",
            f"{name}: the budget ended before the second round did",
        ],
    )


def test_what_select_answers_without_loads_is_served_beside_the_best_of_each_kind(cache: Cache) -> None:
    """EAGER is measured to be far faster than predicted, and so what `select` answers for a batch."""
    before = read_task(MODEL, (C8, C1), cache, host=HOST)
    assert EAGER in before.left_out
    cache.add(*rounds(EAGER, KEY, HOST, (0.01,)))
    after = read_task(MODEL, (C8, C1), cache, host=HOST)
    assert EAGER in {spec.label for spec in after.plan.launch_specs}
    assert EAGER not in after.left_out

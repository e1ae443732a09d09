"""Who does what next in a fleet."""

from collections.abc import Iterator, Mapping

import pytest

from selector.fleet.board import Board
from selector.fleet.groups import Kin
from selector.fleet.tasks import Calibrate, SpotCheck, Standing, Task

H100 = Kin(
    kind="cuda", device="NVIDIA H100", devices=1, memory_gib=80, driver="570", power_limit_w=700, mig="",
    cpu="sapphirerapids", cores=32,
)  # fmt: skip
A100 = Kin(
    kind="cuda", device="NVIDIA A100", devices=1, memory_gib=40, driver="570", power_limit_w=400, mig="",
    cpu="zen3", cores=16,
)  # fmt: skip
BEST = ("vllm:compile", "turbomind:default")


def run(board: Board, speed: Mapping[str, float] | None = None) -> Iterator[Task]:
    """Every task of a fleet in the order in which they end; a host takes `speed` times as long as others."""
    tasks = board.begin()
    while tasks:
        task, *tasks = tasks
        yield task
        factor = (speed or {}).get(task.host, 1.0)
        best = BEST if isinstance(task, Calibrate) else None
        board.measured(task.host, task.model, {BEST[0]: factor, BEST[1]: 1.1 * factor}, best=best)
        tasks += board.begin()


def standing(board: Board, host: str) -> Standing:
    return next(one for one in board.standings() if one.host == host)


def test_one_host_of_a_group_calibrates_and_the_others_check() -> None:
    board = Board({H100: ["a", "b", "c"], A100: ["d"]}, ["m"])
    tasks = list(run(board))
    assert [task for task in tasks if isinstance(task, Calibrate)] == [
        Calibrate(host="a", model="m"), Calibrate(host="d", model="m"),
    ]  # fmt: skip
    assert [task for task in tasks if isinstance(task, SpotCheck)] == [
        SpotCheck(host="b", model="m", labels=BEST, of="a"), SpotCheck(host="c", model="m", labels=BEST, of="a"),
    ]  # fmt: skip
    assert standing(board, "b").inherits
    assert board.left == (0, 0)


def test_models_are_calibrated_on_different_hosts_at_once() -> None:
    board = Board({H100: ["a", "b"]}, ["m", "n", "o"])
    assert board.begin() == [Calibrate(host="a", model="m"), Calibrate(host="b", model="n")]
    assert board.begin() == []
    board.measured("b", "n", dict.fromkeys(BEST, 1.0), best=BEST)
    assert board.begin() == [Calibrate(host="b", model="o")]
    assert board.left == (2, 6)


def test_a_host_is_compared_on_some_models_and_each_model_on_as_many_hosts() -> None:
    models = [f"m{number}" for number in range(8)]
    board = Board({H100: [f"h{number}" for number in range(8)]}, models, verify=2)
    tasks = list(run(board))
    checks = [task for task in tasks if isinstance(task, SpotCheck)]
    assert len(tasks) - len(checks) == len(models)
    assert all(sum(task.host == host for task in checks) <= 2 for host in {task.host for task in checks})
    assert max(sum(task.model == model for task in checks) for model in models) <= 2
    assert all(one.inherits for one in board.standings())


def test_a_slower_host_is_named_and_calibrates_for_itself() -> None:
    board = Board({H100: ["a", "b", "c", "d"]}, ["m", "n"])
    tasks = list(run(board, {"d": 1.3}))
    assert [task.model for task in tasks if isinstance(task, Calibrate) and task.host == "d"] == ["m", "n"]
    assert not standing(board, "d").inherits
    likeness = standing(board, "d").likeness
    assert likeness is not None
    assert likeness.ratio == pytest.approx(1.3)
    assert standing(board, "a").inherits


def test_what_a_slower_host_calibrated_is_calibrated_again_for_the_others() -> None:
    board = Board({H100: ["a", "b", "c", "d"]}, ["m"])
    tasks = list(run(board, {"a": 1.3}))
    assert [task.host for task in tasks if isinstance(task, Calibrate)] == ["a", "b"]
    assert not standing(board, "a").inherits
    assert standing(board, "c").inherits


def test_of_two_hosts_that_differ_both_calibrate() -> None:
    board = Board({H100: ["a", "b"]}, ["m"])
    tasks = list(run(board, {"b": 1.3}))
    assert [task.host for task in tasks if isinstance(task, Calibrate)] == ["a", "b"]
    assert not standing(board, "a").inherits


def test_a_lost_host_leaves_its_model_to_another() -> None:
    board = Board({H100: ["a", "b"]}, ["m"])
    assert board.begin() == [Calibrate(host="a", model="m")]
    board.lost("a", "the node died")
    assert board.begin() == [Calibrate(host="b", model="m")]
    assert standing(board, "a").gone == "the node died"
    board.lost("b", "the node died")
    assert board.begin() == []
    assert board.given_up() == {H100: {"m": "the node died"}}


def test_a_model_that_fails_is_tried_on_another_host_and_then_given_up() -> None:
    board = Board({H100: ["a", "b", "c"]}, ["m"])
    [task] = board.begin()
    board.failed(task, "nothing could be measured")
    [again] = board.begin()
    assert again == Calibrate(host="b", model="m")
    board.failed(again, "nothing could be measured")
    assert board.begin() == []
    assert board.given_up() == {H100: {"m": "nothing could be measured"}}


def test_a_task_that_was_stopped_begins_again() -> None:
    board = Board({H100: ["a"]}, ["m"])
    [task] = board.begin()
    board.stopped(task)
    assert board.begin() == [task]


def test_what_was_measured_earlier_is_not_measured_again() -> None:
    board = Board({H100: ["a", "b"]}, ["m", "n"])
    board.measured("a", "m", dict.fromkeys(BEST, 1.0), best=BEST)
    board.measured("b", "m", dict.fromkeys(BEST, 1.0))
    tasks = list(run(board))
    assert tasks == [Calibrate(host="a", model="n"), SpotCheck(host="b", model="n", labels=BEST, of="a")]


def test_a_comparison_of_which_a_part_was_measured_earlier_is_finished() -> None:
    board = Board({H100: ["a", "b", "c"]}, ["m"])
    board.measured("b", "m", {BEST[0]: 1.0, f"{BEST[1]} on 3 layers": 0.2})
    board.measured("c", "m", {BEST[0]: 1.0})
    tasks = list(run(board))
    assert tasks == [Calibrate(host="a", model="m"), SpotCheck(host="c", model="m", labels=BEST, of="a")]


def test_a_comparison_of_which_a_candidate_failed_is_not_repeated() -> None:
    board = Board({H100: ["a", "b"]}, ["m"])
    assert board.begin() == [Calibrate(host="a", model="m")]
    board.measured("a", "m", dict.fromkeys(BEST, 1.0), best=BEST)
    assert board.begin() == [SpotCheck(host="b", model="m", labels=BEST, of="a")]
    board.measured("b", "m", {BEST[0]: 1.0})
    assert board.begin() == []


def test_who_has_begun_a_model_goes_on_with_it() -> None:
    board = Board({H100: ["a", "b"]}, ["m", "n"], prefer={(H100, "m"): "b"})
    assert board.begin() == [Calibrate(host="a", model="n"), Calibrate(host="b", model="m")]
    board = Board({H100: ["a", "b"]}, ["m"], prefer={(H100, "m"): "b"})
    board.lost("b", "the node died")
    assert board.begin() == [Calibrate(host="a", model="m")]

"""Traffic: what came is counted, kept beside the cache, and added to what was kept."""

import json
from pathlib import Path

import pytest

from calibration.errors import CacheError
from selector.demand.traffic import Observed, Traffic, keep, kept, traffic_file
from tests.selector.serve.clock import Clock


def came(clock: Clock, *lengths: tuple[int, int], candidate: str = "a:x") -> Observed:
    """Requests one after another, each of two seconds, with a second between them."""
    traffic = Traffic(candidate=candidate, clock=clock, wall=clock)
    for prompt, output in lengths:
        clock.now += 1
        traffic.running(1)
        clock.now += 2
        traffic.answered(prompt, output)
        traffic.running(0)
    observed = traffic.take()
    assert observed is not None
    return observed


def test_lengths_and_time_are_counted() -> None:
    observed = came(Clock(), (512, 128), (518, 64), (7, 0))
    assert observed == Observed(
        since=0.0,
        until=9.0,
        requests=3,
        prompt_tokens={510: 1, 520: 1, 7: 1},
        output_tokens={130: 1, 64: 1, 1: 1},
        running_s={0: 3.0, 1: 6.0},
        candidates={"a:x": 3},
    )
    assert (observed.load.label, observed.candidate) == ("pp510:tg64:c1", "a:x")


def test_requests_at_once_are_those_of_the_busy_time() -> None:
    clock = Clock()
    traffic = Traffic(candidate="a:x", clock=clock)
    for seconds, count in ((10.0, 1), (1.0, 3), (1.0, 0)):
        clock.now += seconds
        traffic.running(count)
    clock.now += 100
    assert traffic.take() is None
    traffic.answered(5, 5)
    observed = traffic.take()
    assert observed is not None
    assert observed.running_s == {0: 110.0, 1: 1.0, 3: 1.0}
    assert observed.at_once == 2.0


def test_what_was_taken_is_not_counted_again() -> None:
    clock = Clock()
    traffic = Traffic(candidate="a:x", clock=clock, wall=clock)
    traffic.running(1)
    clock.now = 2.0
    traffic.answered(100, 10)
    first = traffic.take()
    clock.now = 5.0
    traffic.running(0)
    traffic.answered(200, 20)
    second = traffic.take()
    assert first is not None and second is not None
    assert (first.running_s, first.prompt_tokens, first.since) == ({0: 0.0, 1: 2.0}, {100: 1}, 0.0)
    assert (second.running_s, second.prompt_tokens, second.since) == ({1: 3.0, 0: 0.0}, {200: 1}, 2.0)
    both = first + second
    assert (both.running_s, both.requests, both.since, both.until) == ({0: 0.0, 1: 5.0}, 2, 0.0, 5.0)


def test_what_came_is_added_to_what_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "of" / "cache.traffic.json"
    keep(file, "shape:gpt2", came(Clock(), (100, 10)))
    keep(file, "shape:gpt2", came(Clock(), (100, 20), (300, 20), candidate="b:y"))
    keep(file, "shape:smollm2-135m", came(Clock(), (9, 9)))
    assert kept(file, "shape:gpt2") == Observed(
        since=0.0,
        until=6.0,
        requests=3,
        prompt_tokens={100: 2, 300: 1},
        output_tokens={10: 1, 20: 2},
        running_s={0: 3.0, 1: 6.0},
        candidates={"a:x": 1, "b:y": 2},
    )
    assert kept(file, "shape:llama-3.1-8b") is None
    assert set(json.loads(file.read_text())["models"]) == {"shape:gpt2", "shape:smollm2-135m"}


def test_a_folder_is_kept_under_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    keep(tmp_path / "t.json", "./model", came(Clock(), (5, 5)))
    assert kept(tmp_path / "t.json", str(tmp_path / "model")) is not None


@pytest.mark.parametrize("content", ["", "[]", '{"models": {"a": {}}}', '{"models": 3}', "\x00"])
def test_what_cannot_be_read_is_as_if_it_were_not_there(content: str, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text(content)
    assert kept(file, "a") is None
    keep(file, "a", came(Clock(), (5, 5)))
    assert kept(file, "a") is not None


def test_a_file_that_cannot_be_written_is_said() -> None:
    with pytest.raises(CacheError, match=r"^/proc/t/t.json cannot be written: "):
        keep(Path("/proc/t/t.json"), "a", came(Clock(), (5, 5)))


def test_it_lies_beside_the_cache() -> None:
    assert traffic_file("/data/cache.db") == Path("/data/cache.traffic.json")
    assert traffic_file("postgresql://host/db").name == "traffic.json"

"""Room: how many requests at once, how long they may be, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend, UsageError
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.planning.room import Room, room_for
from selector.rules.judge import judge
from selector.selection import choose
from tests.selector.answering import HOST, SPEC

GIB = 1 << 30


def host(free_gib: float) -> HostSpec:
    [device] = HOST.devices
    return replace(HOST, devices=(replace(device, free_bytes=int(free_gib * GIB)),))


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Cache]:
    with Cache.open(tmp_path / "cache.db") as cache:
        yield cache


def room(cache: Cache, model: str = "shape:smollm2-135m", free_gib: float = 20, **how: Any) -> Room:
    asked = {name: how.pop(name) for name in ("slots", "context_tokens") if name in how}
    selection = choose(model, cache=cache, host=host(free_gib), backend="transformers:sdpa", **how)
    return room_for(selection, **asked)


def size(made: Room) -> tuple[int, int]:
    return made.slots, made.context_tokens


def test_with_memory_enough_there_is_room_for_ordinary_use(empty: Cache) -> None:
    assert size(room(empty)) == (4, 8192)
    assert size(room(empty, "shape:gpt2")) == (4, 1024)


def test_it_is_as_large_as_the_workload(empty: Cache) -> None:
    assert size(room(empty, "shape:qwen2.5-0.5b", workload="pp12000:tg500:b2")) == (2, 12500)
    assert size(room(empty, workload="pp512:tg128:b8")) == (8, 8192)
    assert size(room(empty, workload="pp512:tg128:b1")) == (4, 8192)


def test_the_user_decides(empty: Cache) -> None:
    assert size(room(empty, slots=3)) == (3, 8192)
    assert size(room(empty, context_tokens=700)) == (4, 700)
    assert size(room(empty, slots=1, context_tokens=64)) == (1, 64)


def test_with_less_memory_contexts_are_shorter_and_then_slots_fewer(empty: Cache) -> None:
    sizes = [size(room(empty, free_gib=gib)) for gib in (4.0, 2.0, 1.5, 1.3, 1.1)]
    assert sizes == sorted(sizes, key=lambda pair: -pair[0] * pair[1])
    assert sizes[0] == (4, 8192)
    assert len(set(sizes)) > 2


def test_what_does_not_fit_is_refused_with_its_reason(empty: Cache) -> None:
    with pytest.raises(IllegalBackend) as caught:
        room(empty, free_gib=2, slots=128)
    lines = str(caught.value).splitlines()
    assert lines[0] == "transformers:sdpa has no room for 128 requests of 640 tokens at once"
    assert lines[1].startswith("  needs ")
    assert lines[2] == "ask for less: --slots N --context N"


def test_no_context_is_longer_than_the_model(empty: Cache) -> None:
    with pytest.raises(UsageError, match=r"^shape:gpt2 has 1,024 positions; found --context 2048$"):
        room(empty, "shape:gpt2", context_tokens=2048)


def test_its_memory_is_what_the_rules_count(empty: Cache) -> None:
    one, four = room(empty, slots=1, context_tokens=4096), room(empty, slots=4, context_tokens=4096)
    # Keys and values of 30 layers with 3 heads of 64 in 16 bits, a quarter more while the cache grows by copying, and
    # 8 % of margin.
    assert four.needed_bytes - one.needed_bytes == pytest.approx(1.25 * 1.08 * 3 * 4096 * 2 * 30 * 3 * 64 * 2)
    assert four.free_bytes == 20 * GIB


def test_an_engine_that_queues_needs_the_cache_of_one_request() -> None:
    def needed(label: str, batch: int, *, served: bool) -> int:
        demand = Demand.of(workload=Workload(prompt_tokens=4000, output_tokens=96, batch=batch))
        verdicts = judge(SPEC, HOST, demand, served=served)
        return next(v.needed_bytes for v in verdicts if v.candidate.label == label)

    # Without paged attention OpenVINO answers one request after another, but a batch in step.
    assert needed("openvino:fp16-sdpa", 4, served=True) == needed("openvino:fp16-sdpa", 1, served=True)
    assert needed("openvino:fp16-sdpa", 4, served=False) > needed("openvino:fp16-sdpa", 1, served=False)
    assert needed("openvino:fp16-pa", 4, served=True) > needed("openvino:fp16-pa", 1, served=True)

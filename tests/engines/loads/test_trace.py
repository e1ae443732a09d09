"""A trace with real engines: replayed, known by what is in it, measured again without its file, and served for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.load.trace import Arrival, Trace
from calibration.measurement import Check, OutputVerdict, Served
from selector.host.spec import HostSpec
from selector.planning.calibrate import calibrate
from selector.selection import choose
from selector.upkeep.renew import calibrate_stale
from selector.upkeep.served import stale_served
from tests.calibration.points import trace_of, write_trace
from tests.engines.served import serving

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SDPA, EAGER = "transformers:sdpa", "transformers:eager"
LONG = Arrival(at_s=0.3, prompt_tokens=100_000, output_tokens=8)
"""Longer than any tiny model's positions."""


@contextmanager
def silent(random_weights: bool) -> Iterator[Silent]:
    assert not random_weights
    yield Silent()


def test_a_trace_is_replayed_renewed_and_served_for(tiny: Callable[..., Path], tmp_path: Path) -> None:
    model, host, store = tiny("llama"), HostSpec.detect(), ArtifactStore(tmp_path / "artifacts")
    sent = trace_of(20, every_s=0.1)
    came = Trace(arrivals=tuple(sorted((*sent.arrivals, LONG), key=lambda arrival: arrival.at_s)))
    file = write_trace(tmp_path / "requests.jsonl", came)
    with Cache.open(tmp_path / "cache.db") as cache:
        calibration = calibrate(
            model, trace=file, backends=[SDPA, EAGER], rounds=1, cache=cache, host=host, store=store
        )
        launches = [o for o in cache.all() if isinstance(o, Served)]
        moved = file.rename(tmp_path / "monday.jsonl")
        chosen = choose(model, trace=moved, cache=cache, host=host, strict=True)
        served_for(model, moved, chosen.candidate.label, tmp_path)
    assert calibration.served is not None
    assert sorted(launch.candidate.label for launch in launches) == [EAGER, SDPA]
    for launch in launches:
        [point] = launch.points
        assert launch.agreement.verdict is OutputVerdict.RIGHT
        assert (point.load.trace, point.load.title) == (sent.digest, "trace:requests 20 requests in 1.9 s")
        assert [(a.due_s, a.prompt_tokens, a.output_tokens) for a in point.sample] == [
            (a.at_s, a.prompt_tokens, a.output_tokens) for a in sent.arrivals
        ]
        assert not point.failures
    assert chosen.source == "measured"
    assert {one.candidate.label for one in chosen.served} == {SDPA, EAGER}
    assert [note.partition(" of ")[0] for note in chosen.notes] == ["1 request is left out"]
    renewed(launches, moved, tmp_path)


def served_for(model: Path, file: Path, label: str, folder: Path) -> None:
    """`serve --trace FILE` takes what was measured under it, and has room for it."""
    with serving(model, "--trace", file, "--backend", label, folder=folder) as server:
        assert (server.answer["candidate"], server.answer["slots"]) == (label, 8)
        assert server.answer["workload"] == choose(model, trace=file).use.label
        assert server.answer["context_tokens"] >= 35 + 8


def renewed(launches: list[Served], file: Path, folder: Path) -> None:
    """As if another transformers had run one of the two: both are measured in the same round, and nothing is stale."""
    old = next(launch for launch in launches if launch.candidate.label == EAGER)
    pick = next(launch for launch in launches if launch.candidate.label == SDPA)
    # As good as the other, so that it could change the answer.
    old = replace(old, environment={**old.environment, "transformers": "4.0"}, points=pick.points)
    file.unlink()
    with Cache.open(folder / "renewed.db") as cache:
        cache.add(pick, old)
        [stale] = stale_served(cache)
        assert (stale.mattering, stale.leaders, stale.kept) == ((EAGER,), (SDPA,), True)
        [calibration] = calibrate_stale(cache, reporter=silent, store=ArtifactStore(folder / "artifacts"), rounds=1)
        assert calibration.served is not None
        fresh = [o for o in cache.all() if o.calibration_id == calibration.served.calibration_id]
        assert sorted((o.candidate.label, o.round) for o in fresh if isinstance(o, Served)) == [(EAGER, 1), (SDPA, 1)]
        assert sorted(o.candidate.label for o in fresh if isinstance(o, Check)) == [EAGER, SDPA]
        assert [point.load.title for o in fresh if isinstance(o, Served) for point in o.points] == [
            "trace:requests 20 requests in 1.9 s"
        ] * 2
        assert stale_served(cache) == ()
        assert list(calibrate_stale(cache, reporter=silent, rounds=1)) == []

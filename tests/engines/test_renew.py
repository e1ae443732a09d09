"""calibrate_stale() with a real engine: the stale candidate and the pick of today are launched in the same round."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.measurement import Measurement
from selector.planning.calibrate import calibrate
from selector.upkeep.outdated import stale_models
from selector.upkeep.renew import calibrate_stale

pytestmark = pytest.mark.engine

SDPA, EAGER = "transformers:sdpa", "transformers:eager"


@contextmanager
def silent(random_weights: bool) -> Iterator[Silent]:
    assert not random_weights
    yield Silent()


def test_the_stale_one_is_measured_beside_the_pick_and_then_nothing_is_stale(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    model, store = tiny("llama"), ArtifactStore(tmp_path / "artifacts")
    with Cache.open(tmp_path / "first.db") as cache:
        first = calibrate(
            model, workload="pp8:tg4", backends=[SDPA, EAGER], rounds=1, full=True, cache=cache, store=store
        ).tally.outcomes
    with Cache.open(tmp_path / "cache.db") as cache:
        # As if another transformers had run the one, as fast as the other, and a model that is gone.
        old = {o.candidate.label: o for o in first}[EAGER]
        pick = {o.candidate.label: o for o in first}[SDPA]
        assert isinstance(old, Measurement) and isinstance(pick, Measurement)
        old = replace(old, environment={**old.environment, "transformers": "4.0"}, cells=pick.cells)
        cache.add(pick, old, replace(old, run_id="0" * 32, model=str(tmp_path / "gone")))
        assert [s.model for s in stale_models(cache, store=store) if s.mattering] == [str(model)]
        [calibration] = calibrate_stale(cache, reporter=silent, store=store, rounds=1)
        fresh = [o for o in cache.all() if o.calibration_id == calibration.tally.calibration_id]
        assert sorted((o.candidate.label, o.round, type(o)) for o in fresh) == [
            (EAGER, 1, Measurement),
            (SDPA, 1, Measurement),
        ]
        assert {c.workload for o in fresh if isinstance(o, Measurement) for c in o.cells} == {
            c.workload for c in pick.cells
        }
        assert [s.mattering for s in stale_models(cache, store=store)] == []
        assert list(calibrate_stale(cache, reporter=silent, store=store, rounds=1)) == []

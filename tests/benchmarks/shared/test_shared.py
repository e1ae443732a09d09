"""The benchmark of the shared cache counts what its writers leave, and times answers that were measured."""

from pathlib import Path

import pytest

from benchmarks.shared.answers import answers
from benchmarks.shared.writers import LAUNCH, run_id, write_together
from calibration.cache.cache import Cache
from selector.evidence.identity import identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from tests.selector.launches import rounds

MODEL = "shape:smollm2-135m"


@pytest.mark.slow
def test_nothing_is_lost_of_many_writers(database: str) -> None:
    written = write_together(database, writers=6, rows=20, processes=2)
    assert (written.writers, written.rows, written.lost, written.doubled) == (6, 120, 0, 0)
    with Cache.open(database) as cache:
        ids = {launch.run_id for launch in cache.all(calibration_id=LAUNCH.calibration_id)}
    assert ids == {run_id(writer, number) for writer in range(6) for number in range(20)}


@pytest.mark.slow
def test_a_writer_that_fails_fails_the_benchmark(database: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE launches ADD CONSTRAINT few CHECK (started_at < 1790000010)")
    with pytest.raises(RuntimeError, match="violates check constraint"):
        write_together(database, writers=2, rows=20, processes=1)


@pytest.mark.slow
def test_answers_are_timed_where_the_model_was_measured(tmp_path: Path, database: str) -> None:
    host = HostSpec.detect()
    key = identity(ModelSpec.read(MODEL), host)
    for where in (str(tmp_path / "cache.db"), database):
        with pytest.raises(ValueError, match="was not measured in "):
            answers(MODEL, where, again=2, others=2, fresh=1)
        with Cache.open(where) as cache:
            cache.add(*rounds("transformers:sdpa", key, host, (1.0, 1.0)))
        spreads = answers(MODEL, where, again=2, others=2, fresh=1)
        assert [spread.times for spread in spreads.values()] == [2, 2, 1, 1]
        assert all(0 < spread.p50_s <= spread.p95_s for spread in spreads.values())

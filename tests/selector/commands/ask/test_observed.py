"""`select --observed`: the answer for what a server has really answered, and what another choice would gain."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calibration.cache.cache import Cache
from selector.cli import main
from selector.context import DEFAULT
from selector.demand.traffic import Observed, keep, traffic_file
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from tests.selector.launches import rounds

MODEL = "shape:smollm2-135m"
SDPA, EAGER = "transformers:sdpa", "transformers:eager"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache with launches of this very host: sdpa twice as fast as eager."""
    host = DEFAULT.host()
    key = identity(ModelSpec.read(MODEL), host)
    place = tmp_path / "cache.db"
    with Cache.open(place) as cache:
        cache.add(*rounds(SDPA, key, host, (1.0, 1.0, 1.0)), *rounds(EAGER, key, host, (2.0, 2.0, 2.0)))
    return place


def served(path: Path, **candidates: int) -> None:
    """Three requests, two of them at once."""
    counts = {f"transformers:{variant}": count for variant, count in candidates.items()}
    came = Observed(
        since=0.0,
        until=60.0,
        requests=sum(counts.values()),
        prompt_tokens={200: 1, 300: 2},
        output_tokens={64: 3},
        running_s={0: 50.0, 1: 1.0, 2: 5.0},
        candidates=counts,
    )
    keep(traffic_file(str(path)), MODEL, came)


def select(*words: str, cache: Path) -> Result:
    return CliRunner().invoke(main, ["select", MODEL, "--observed", "--cache", str(cache), *words])


def test_it_answers_for_what_came_and_says_what_is_gained(path: Path) -> None:
    served(path, eager=2, sdpa=1)
    found = select(cache=path)
    assert (found.exit_code, found.stdout) == (0, "transformers:sdpa\n")
    notes = [line for line in found.stderr.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith("note: 3 requests, the first ")
    assert notes[0].endswith(
        " ago: 300 prompt tokens and 64 new ones (medians), 1.83 at once; transformers:eager answered most of them"
    )
    assert notes[1] == "note: transformers:sdpa answers such requests 2.00 times faster than transformers:eager"
    assert "pp300:tg64:c2 was not measured as served here" in found.stderr


def test_where_the_best_answered_already_nothing_is_gained(path: Path) -> None:
    served(path, sdpa=3)
    assert "note: transformers:sdpa is the choice for them, too\n" in select(cache=path).stderr


def test_its_command_serves_such_requests(path: Path) -> None:
    served(path, sdpa=3)
    assert select("--json", cache=path).exit_code == 0
    assert '"workload": "pp300:tg64:c2"' in select("--json", cache=path).stdout


def test_without_traffic_it_says_how_to_get_some(path: Path) -> None:
    found = select(cache=path)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr == (
        f"error: no server of {MODEL} has answered anything here\nstart one: autobackend serve {MODEL}\n"
    )


def test_it_is_the_workload(path: Path) -> None:
    found = select("--workload", "chat", cache=path)
    assert found.exit_code == 2
    assert found.stderr.startswith("error: --observed answers for what came; found --workload pp512:tg128:b1\n")

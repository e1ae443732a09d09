"""`autobackend select MODEL --emit PROGRAM`: whose configuration is printed, and what is said beside it."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from calibration.cache.cache import Cache
from calibration.errors import IllegalBackend, UsageError
from selector.among import choose_among
from selector.cli import main
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from tests.selector.answering import ARM, ARM_KEY, CT2, HOST, KEY, MODEL, SDPA
from tests.selector.launches import rounds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache with launches of this very host: sdpa is the fastest."""
    host = DEFAULT.host()
    place = tmp_path / "cache.db"
    with Cache.open(place) as cache:
        cache.add(*rounds(SDPA, identity(ModelSpec.read(MODEL), host), host, (1.0, 1.0, 1.0)))
    return place


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="autobackend")


def test_every_engine_may_be_served_by_autobackend_itself(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--emit", "llama-swap")
    assert found.exit_code == 0, found.stderr
    entry = yaml.safe_load(found.stdout)["models"]["smollm2-135m"]
    assert entry["cmd"].startswith(f"autobackend serve {MODEL} --backends {SDPA} ")
    assert found.stdout.startswith(f"# {SDPA} for pp512:tg128:b1 (measured); autobackend select {MODEL} --emit ")
    assert "note: where the model must be converted" in found.stderr


def test_what_no_engine_of_a_program_can_run_is_refused_with_every_reason(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--emit", "lmdeploy")
    assert (found.exit_code, found.stdout) == (IllegalBackend.exit_code, "")
    assert found.stderr.startswith(f"error: turbomind, pytorch cannot run {MODEL}\n")
    assert "needs lmdeploy" in found.stderr


def test_a_backend_that_the_program_cannot_run_is_refused(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--emit", "ollama", "--backend", "transformers")
    assert (found.exit_code, found.stdout) == (UsageError.exit_code, "")
    assert found.stderr.splitlines() == [
        "error: Ollama runs llamacpp; found --backend transformers",
        "leave --backend out, or name one of these: llamacpp",
    ]


@pytest.mark.parametrize("other", ["--why", "--command", "--json"])
def test_one_thing_is_printed(other: str, path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--emit", "compose", other)
    assert (found.exit_code, found.stdout) == (UsageError.exit_code, "")


def test_an_unknown_program_is_refused(path: Path) -> None:
    found = run("select", MODEL, "--cache", path, "--emit", "nothing")
    assert (found.exit_code, found.stdout) == (UsageError.exit_code, "")
    assert "'llama-server', 'llama-swap', 'lmdeploy'" in found.stderr


def test_the_best_of_all_is_taken_where_the_program_can_run_it(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(CT2, KEY, HOST, (2.0, 2.0)))
    among = choose_among(MODEL, Demand(), ("transformers", "vllm"), program="It", cache=cache, host=HOST)
    assert (among.selection.candidate.label, among.selection.source, among.sentence) == (SDPA, "measured", "")
    assert choose_among(MODEL, Demand(), (), program="It", cache=cache, host=HOST) == among


def test_else_the_best_of_those_that_it_can_and_that_is_said(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(CT2, KEY, HOST, (2.0, 2.0)))
    among = choose_among(MODEL, Demand(), ("ctranslate2",), program="It", cache=cache, host=HOST)
    assert (among.selection.candidate.label, among.selection.source) == (CT2, "forced")
    assert among.sentence == (
        f"It runs ctranslate2 alone: this is for {CT2}; of all backends {SDPA} is the choice here"
    )


def test_that_nothing_was_measured_of_those_is_said(cache: Cache) -> None:
    """Where nothing is known of such a host, either: a prediction is a note of the selection's own."""
    cache.add(*rounds(SDPA, ARM_KEY, ARM, (1.0, 1.0)))
    among = choose_among(MODEL, Demand(), ("ctranslate2",), program="It", cache=cache, host=ARM)
    assert among.selection.backend == "ctranslate2"
    assert among.warning == (
        f"{MODEL} was never measured with ctranslate2 on this host; this is the static order."
        f" Measure it: autobackend calibrate {MODEL} --backends ctranslate2"
    )
    known = choose_among(MODEL, Demand(), ("ctranslate2",), program="It", cache=cache, host=HOST)
    assert (known.selection.expected is not None, known.warning) == (True, "")


def test_of_the_backends_that_are_named_those_count_that_it_can_run(cache: Cache) -> None:
    cache.add(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(CT2, KEY, HOST, (2.0, 2.0)))
    demand = Demand(backends=(CT2, "transformers"))
    among = choose_among(MODEL, demand, ("ctranslate2",), program="It", cache=cache, host=HOST)
    assert (among.selection.candidate.label, among.selection.demand.backends, among.sentence) == (CT2, (CT2,), "")

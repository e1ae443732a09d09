"""`autobackend serve`: what it refuses before anything is loaded."""

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from selector.cli import main
from selector.serve.api.listen import Address, listen

MODEL = "shape:gpt2"


def serve(*words: object, cache: Path, **environment: str) -> Result:
    own = {"AUTOBACKEND_CACHE": str(cache), **environment}
    return CliRunner(env=own).invoke(main, ["serve", *map(str, words)], prog_name="autobackend")


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with closing(listen(Address(port=0))) as taken:
        port = taken.getsockname()[1]
        found = serve(MODEL, "--port", port, "--calibrate", 3600, cache=tmp_path / "cache.db")
    assert (found.exit_code, found.stdout) == (16, "")
    assert found.stderr == (
        f"error: cannot listen at 127.0.0.1:{port}: address already in use\n--port 0 takes a free port\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--host", "0.0.0.0"], 2, "error: --host 0.0.0.0 lets other machines ask; found no key that they must know\n"),
        (["--host", "0.0.0.0", "--api-key", ""], 2, "error: needs a key without blanks around it; found an empty one"),
        (["--served-model-name", ""], 2, "error: a model that is served needs a name; found ''\n"),
        (["--backend", "foo"], 2, "error: unknown backend 'foo'\n"),
        (["--backend", "turbomind"], 6, f"error: turbomind cannot run {MODEL}\n"),
        (["--context", "4096"], 2, f"error: {MODEL} has 1,024 positions; found --context 4096\n"),
        (["--slots", "0"], 2, "error: Invalid value for '--slots'"),
        (["--drain", "-1"], 2, "error: Invalid value for '--drain'"),
        (["--adapt", "--adapt-every", "0"], 2, "error: Invalid value for '--adapt-every'"),
    ],
)
def test_errors(words: list[str], code: int, sentence: str, tmp_path: Path) -> None:
    found = serve(MODEL, "--port", 0, *words, cache=tmp_path / "cache.db")
    assert (found.exit_code, found.stdout) == (code, "")
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    found = serve("shape:nope", "--port", 0, cache=tmp_path / "cache.db")
    assert (found.exit_code, found.stderr.splitlines()[0]) == (3, "error: there is no shape 'nope'")

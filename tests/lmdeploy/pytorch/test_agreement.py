"""The correctness check on what LMDeploy's PyTorch engine really computes: right where it is, wrong where it is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from calibration.backend import Engine
from calibration.backends.pytorch import PyTorch
from calibration.backends.transformers import TransformersBackend
from calibration.check.agreement import GROUPS, NEW_TOKENS, Answers, compare, fixed_prompts
from calibration.measurement import OutputVerdict
from calibration.worker.main import _Server
from tests.lmdeploy.conftest import Checkpoints
from tests.lmdeploy.jobs import a_job

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]

VOCAB = 320


@pytest.fixture(scope="module")
def standins() -> None:
    from tests.lmdeploy.stand_ins import lmdeploy_cpu

    lmdeploy_cpu.install("torch")


def ask(engine: Engine, rows_file: Path, along: Answers | None = None) -> Answers:
    """An engine's answers to the fixed prompts, as a worker gives them."""
    server = _Server()
    server.engine = engine
    asked = fixed_prompts(VOCAB, 256)
    if along is None:
        told = server.do_refer(prompts=asked, new_tokens=NEW_TOKENS, rows_file=str(rows_file))
        return Answers.of_reference(told["paths"], rows_file, told["rows"])
    told = server.do_answer(
        prompts=asked,
        groups=[list(group) for group in GROUPS],
        new_tokens=NEW_TOKENS,
        continuations=[list(along.path(i)[:-1]) for i in range(len(asked))],
        rows_file=str(rows_file),
    )
    return Answers.of(told["tokens"], rows_file, told["rows"])


@pytest.mark.parametrize(
    ("shape", "verdict"), [({}, OutputVerdict.RIGHT), ({"tie_word_embeddings": False}, OutputVerdict.WRONG)]
)
def test_an_untied_gemma_is_found_to_be_wrong(
    shape: dict[str, bool], verdict: OutputVerdict, checkpoint: Checkpoints, standins: None, tmp_path: Path
) -> None:
    folder = checkpoint("gemma2", **shape)
    plain = TransformersBackend()
    exact = plain.load(replace(a_job(plain, folder, "eager-fp32"), device="cpu"))
    expected = ask(exact, tmp_path / "reference.f32")
    backend = PyTorch()
    engine = backend.load(a_job(backend, folder, "eager", dtype="bfloat16"))
    try:
        found = compare(expected, ask(engine, tmp_path / "found.f32", expected), "16-bit")
    finally:
        engine.close()
    assert (found.verdict, found) == (verdict, found)

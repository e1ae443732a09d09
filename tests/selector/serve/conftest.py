"""A text for the tests of the API: its tokenizer is trained once."""

from pathlib import Path

import pytest

from selector.serve.language.text import Text, read_text
from tests.selector.serve.language.tokenizers_of_tests import CHATML, END, TURN_END, byte_level, checkpoint


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    """Tokens of bytes, a chat template, and two tokens that end an answer: END (0) and TURN_END (2)."""
    folder = checkpoint(
        tmp_path_factory.mktemp("text") / "model",
        byte_level(),
        tokenizer_config={"eos_token": TURN_END, "bos_token": END, "chat_template": CHATML},
        generation_config={"eos_token_id": [0, 2]},
    )
    read = read_text(Path(folder))
    assert read is not None
    return read


@pytest.fixture(scope="session")
def words(text: Text) -> list[int]:
    """Ids of a short answer."""
    return list(text.encode(" The capital of France is Paris.", most=400).tokens)

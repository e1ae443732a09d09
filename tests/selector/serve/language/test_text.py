"""What is read of a checkpoint's tokenizer, and how prompts become tokens."""

from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from calibration.errors import ModelError
from selector.serve.language.text import Prompt, Text, read_text
from selector.serve.language.vocabulary import Token, Vocabulary
from selector.serve.upstream import Refused
from tests.selector.serve.language.tokenizers_of_tests import (
    CHATML,
    HARD,
    SENTENCES,
    TURN_END,
    byte_level,
    checkpoint,
    sentence_piece,
)

FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}


def read(folder: Path) -> Text:
    text = read_text(folder)
    assert text is not None
    return text


@pytest.mark.parametrize("made", [byte_level, sentence_piece])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"bos_token": "<s>"},
        {"bos_token": "<s>", "add_bos_token": True},
        {"bos_token": {"content": "<s>", "__type": "AddedToken"}, "add_bos_token": True},
        {"bos_token": "<s>", "add_bos_token": False},
        {"add_bos_token": True},
    ],
    ids=["nothing", "bos", "adds", "adds_object", "adds_not", "adds_none"],
)
def test_prompts_are_encoded_as_transformers_does(made: Any, config: dict[str, Any], tmp_path: Path) -> None:
    if made is byte_level:
        config = {**config, **({"bos_token": TURN_END} if "bos_token" in config else {})}
    folder = checkpoint(tmp_path / "model", made(), tokenizer_config=FAST | config, config={"model_type": "llama"})
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = read(folder)
    for prompt in [*SENTENCES, HARD, "", " the", f"one{TURN_END}two"]:
        assert ours.encode(prompt, most=1000) == Prompt(tokens=tuple(theirs(prompt)["input_ids"]))


def test_a_chat_has_the_template_s_special_tokens_and_no_others(tmp_path: Path) -> None:
    config = FAST | {"bos_token": "<s>", "add_bos_token": True, "chat_template": "{{ bos_token }}" + CHATML}
    folder = checkpoint(tmp_path / "model", sentence_piece(), tokenizer_config=config, config={"model_type": "llama"})
    theirs = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "the inner"}]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    prompt = read(folder).encode_chat(messages, None, most=1000)
    assert prompt == Prompt(tokens=tuple(cast("list[int]", ids))) and prompt.tokens.count(1) == 1


def test_a_model_without_a_chat_template_takes_no_chats(tmp_path: Path) -> None:
    text = read(checkpoint(tmp_path / "model", byte_level()))
    with pytest.raises(Refused) as caught:
        text.encode_chat([{"role": "user", "content": "Hi"}], None, most=10)
    assert caught.value.message == "this model has no chat template; ask /v1/completions with a `prompt`"


@pytest.mark.parametrize(
    ("config", "generation_config", "tokenizer_config", "end_tokens"),
    [
        ({}, None, {}, set()),
        ({"eos_token_id": 5}, None, {}, {5}),
        ({"text_config": {"eos_token_id": [5, 6]}}, None, {}, {5, 6}),
        ({"eos_token_id": 5}, {"eos_token_id": [7, 8]}, {}, {7, 8}),
        ({"eos_token_id": 5}, {"eos_token_id": None}, {}, {5}),
        ({"eos_token_id": 0}, {"eos_token_id": 0}, {"eos_token": TURN_END}, {0, 2}),
        (None, None, {"eos_token": {"content": TURN_END}}, {2}),
        ({"eos_token_id": 5}, None, {"eos_token": "unheard of"}, {5}),
    ],
)
def test_tokens_that_end_an_answer(
    config: Any, generation_config: Any, tokenizer_config: Any, end_tokens: set[int], tmp_path: Path
) -> None:
    folder = checkpoint(
        tmp_path / "model",
        byte_level(),
        config=config,
        generation_config=generation_config,
        tokenizer_config=tokenizer_config,
    )
    assert read(folder).end_tokens == end_tokens


def test_special_tokens_of_an_older_checkpoint_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", byte_level(), tokenizer_config={})
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    assert read(folder).end_tokens == {2}


def test_a_folder_without_a_tokenizer_has_no_text(tmp_path: Path) -> None:
    assert read_text(tmp_path) is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer: "):
        read_text(tmp_path)
    folder = checkpoint(tmp_path / "model", byte_level())
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json needs a JSON object; found a list"):
        read_text(folder)


def test_a_tokenizer_s_own_limits_are_not_ours(tmp_path: Path) -> None:
    """One that was saved with truncation and padding would cut a prompt in silence."""
    tokenizer = byte_level()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    text = read(checkpoint(tmp_path / "model", tokenizer))
    assert text.encode("abcdef", most=100).tokens == tuple(byte_level().encode("abcdef").ids)


def test_a_text_that_is_far_too_long_is_not_encoded_to_its_end(text: Text) -> None:
    prompt = text.encode("What is it? " * 1_000_000, most=100)
    assert not prompt.whole and 100 < len(prompt.tokens) < 2000
    assert text.encode("What is it? " * 100, most=100).whole


def test_a_long_text_of_few_tokens_is_encoded_whole(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["=" * 50])
    text = read(checkpoint(tmp_path / "model", tokenizer))
    for most, count in ((100, 90), (20, 15)):
        prompt = text.encode("=" * 50 * count, most=most)
        assert prompt.whole and len(prompt.tokens) == count


def names(tokenizer: Tokenizer, text: str) -> list[Token]:
    vocabulary = Vocabulary(tokenizer)
    return [vocabulary.token(token) for token in tokenizer.encode(text, add_special_tokens=False).ids]


@pytest.mark.parametrize("made", [byte_level, sentence_piece])
def test_the_bytes_of_the_tokens_are_the_text_s(made: Any) -> None:
    raw = b"".join(token.raw for token in names(made(), HARD))
    assert raw.decode().lstrip() == HARD.lstrip()


def test_what_tokens_are_called() -> None:
    tokenizer = byte_level()
    assert names(tokenizer, "é" + TURN_END) == [
        Token(text="\ufffd", raw=b"\xc3"),
        Token(text="\ufffd", raw=b"\xa9"),
        Token(text=TURN_END, raw=TURN_END.encode()),
    ]
    special = "<end▁of▁世界>"
    for made in (tokenizer, sentence_piece()):
        made.add_special_tokens([special])
        assert names(made, special)[-1] == Token(text=special, raw=special.encode())
    assert names(sentence_piece(), "the\n") == [Token(text=" the", raw=b" the"), Token(text="\n", raw=b"\n")]
    assert Vocabulary(tokenizer).token(100_000) == Token(text="", raw=b"")

"""From tokens to text, a token at a time."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from selector.serve.language.detokeniser import Detokeniser, StopTexts
from tests.selector.serve.language.tokenizers_of_tests import END, HARD, byte_level, sentence_piece

BYTES, PIECES = byte_level(), sentence_piece()
BOTH = pytest.mark.parametrize("tokenizer", [BYTES, PIECES], ids=["byte_level", "sentence_piece"])


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def pieces(tokenizer: Tokenizer, tokens: list[int], prompt: tuple[int, ...] = ()) -> list[str]:
    """What each token gives, and what is left at the end."""
    detokeniser = Detokeniser(tokenizer, prompt)
    return [*(detokeniser.step(token) for token in tokens), detokeniser.flush()]


@BOTH
@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40))
def test_the_pieces_are_the_text_and_no_character_is_split(tokenizer: Tokenizer, text: str) -> None:
    tokens = ids(tokenizer, text)
    told = pieces(tokenizer, tokens)
    assert "".join(told) == tokenizer.decode(tokens)
    assert not any("\ufffd" in piece for piece in told)


@settings(deadline=None)
@given(st.lists(st.integers(3, 258), max_size=60))
def test_any_tokens_at_all_have_the_text_that_they_have_together(tokens: list[int]) -> None:
    """Random weights say what is no UTF-8: a replacement character stands where it is broken."""
    told = "".join(pieces(BYTES, tokens))
    assert told.replace("\ufffd", "") == BYTES.decode(tokens).replace("\ufffd", "")


@settings(deadline=None)
@given(st.lists(st.integers(3, 258), max_size=60))
def test_bytes_that_are_no_text_take_no_character_back(tokens: list[int]) -> None:
    """SentencePiece decodes bytes in a row together, and what was told of them stays as it is."""
    told = "".join(pieces(PIECES, tokens))
    assert [letter for letter in PIECES.decode(tokens) if letter != "\ufffd"] <= list(told) or "\ufffd" in told


@BOTH
def test_characters_of_several_tokens(tokenizer: Tokenizer) -> None:
    tokens = ids(tokenizer, HARD)
    told = pieces(tokenizer, tokens)
    assert "".join(told) == HARD
    assert told.count("") > 20  # most of these characters are four tokens, of which three give no text


def test_half_a_character_at_the_end_is_told_as_one_that_is_broken() -> None:
    tokens = ids(BYTES, "a🙂")
    assert pieces(BYTES, tokens[:-1]) == ["a", "", "", "", "\ufffd"]


def test_what_was_told_stays_when_what_follows_breaks_it() -> None:
    """SentencePiece decodes bytes in a row together: with one that is no character, none of them is one."""
    world = ids(PIECES, "世")[1:]
    broken = PIECES.token_to_id("<0xFF>")
    assert broken is not None
    told = pieces(PIECES, [*world, broken, *ids(PIECES, "the"), *world])
    assert told == ["", "", "世", "", "\ufffd the", "", "", "世", ""]


def test_an_answer_goes_on_with_the_space_that_its_prompt_leaves_to_it() -> None:
    prompt, answer = ids(PIECES, "the"), ids(PIECES, "the fox")[1:]
    assert "".join(pieces(PIECES, answer, tuple(prompt))) == " fox"
    assert "".join(pieces(PIECES, answer)) == "fox"


def test_the_text_of_a_prompt_that_ends_within_a_character_is_not_told() -> None:
    prompt, answer = ids(BYTES, "The quick 🙂")[:-1], ids(BYTES, " fox")
    assert "".join(pieces(BYTES, answer, tuple(prompt))) == " fox"


def test_special_tokens_have_no_text() -> None:
    end = BYTES.token_to_id(END)
    assert end is not None
    assert "".join(pieces(BYTES, [*ids(BYTES, "one"), end, end, *ids(BYTES, " two")])) == "one two"


def test_what_is_never_a_character_is_told_after_a_while() -> None:
    """Else each step would decode everything that is held: an answer of 20,000 such tokens would take minutes."""
    [half] = set(ids(BYTES, "é")[:1])
    detokeniser = Detokeniser(BYTES)
    told = [detokeniser.step(half) for _ in range(20_000)]
    assert len("".join(told)) + len(detokeniser.flush()) == 20_000
    assert max(map(len, told)) == 32


def test_stop_texts_across_pieces() -> None:
    stops = StopTexts(["END", "\n\n"])
    assert [stops.add(piece) for piece in ("a", "E", "x", "E", "N", "N", "EN", "D")] == [
        "a", "", "Ex", "", "", "ENN", "", "",
    ]  # fmt: skip
    assert stops.met


def test_what_was_held_back_is_told_when_nothing_more_comes() -> None:
    stops = StopTexts(["END"])
    assert (stops.add("the EN"), stops.flush(), stops.flush(), stops.met) == ("the ", "EN", "", False)


def test_the_first_stop_text_counts() -> None:
    stops = StopTexts(["later", "soon"])
    assert (stops.add("too soon or later"), stops.met) == ("too ", True)


@settings(deadline=None)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4), st.randoms())
def test_stop_texts_do_not_depend_on_how_the_text_is_cut(text: str, stops: list[str], cut: random.Random) -> None:
    """It is told up to where the one begins that is complete first."""
    finder, told, rest = StopTexts(stops), "", text
    while rest and not finder.met:
        size = cut.randint(1, len(rest))
        told, rest = told + finder.add(rest[:size]), rest[size:]
    told += finder.flush()
    ends = [(begin + len(stop), begin) for stop in stops if (begin := text.find(stop)) >= 0]
    assert finder.met == bool(ends)
    assert told == (text[: min(ends)[1]] if ends else text)

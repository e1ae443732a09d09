"""Loads: how they are written, what they refuse, and how long their answers are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.codec import from_plain, to_plain
from calibration.errors import UsageError
from calibration.load.load import MEND, STANDARD, Lengths, Load


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("pp512:tg128:c8", Load(prompt=Lengths(low=512, high=512), output=Lengths(low=128, high=128), streams=8)),
        (" pp1:tg1:r0.25 ", Load(prompt=Lengths(low=1, high=1), output=Lengths(low=1, high=1), rate=0.25)),
        ("pp200-800:tg64-256:c4", Load(prompt=Lengths(low=200, high=800), output=Lengths(low=64, high=256), streams=4)),
        (
            "pp7-900:tg1-300:r0.81:t0a1b2c3d",
            Load(prompt=Lengths(low=7, high=900), output=Lengths(low=1, high=300), rate=0.81, trace="0a1b2c3d"),
        ),
    ],
)
def test_a_load_is_read_from_its_label(text: str, load: Load) -> None:
    assert Load.parse(text) == load
    assert load.label == text.strip()


lengths = st.tuples(st.integers(1, 9_999_999), st.integers(1, 9_999_999)).map(
    lambda p: Lengths(low=min(p), high=max(p))
)
closed = st.builds(Load, prompt=lengths, output=lengths, streams=st.integers(1, 99_999))
opened = st.builds(
    Load,
    prompt=lengths,
    output=lengths,
    rate=st.integers(1, 999_999_999_999).map(lambda millionths: millionths / 1e6),
    trace=st.sampled_from(["", "00ff00ff"]),
)


@given(closed | opened)
def test_a_label_and_a_record_are_read_as_what_they_were_made_of(load: Load) -> None:
    assert Load.parse(load.label) == load
    assert from_plain(Load, to_plain(load)) == load


@given(closed)
def test_answers_have_the_mean_of_the_label(load: Load) -> None:
    assert load.answers.mean == load.output.mean
    assert load.answers.low >= 1
    assert load.context_tokens == load.prompt.high + load.answers.high


def test_a_trace_has_its_own_lengths_even_where_they_are_all_the_same() -> None:
    assert str(Load.parse("pp8:tg64:r1").answers) == "32-96"
    assert str(Load.parse("pp8:tg64:r1:t00000000").answers) == "64"


@pytest.mark.parametrize(
    "text", ["", "pp512:tg128", "pp512:tg128:b4", "pp512:tg128:c", "pp512:tg128:c8:t00000000", "pp8:tg8:r1:tx", "Serve"]
)
def test_what_is_no_load_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Load.parse(text)
    assert refusal.value.message == f"unknown load {text!r}"
    assert refusal.value.mend == f"{MEND}, or name one of: {', '.join(STANDARD)}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pp512:tg128:c0", "a load needs streams or a rate, more than 0; found 0 streams, 0 requests a second"),
        ("pp512:tg128:r0", "a load needs streams or a rate, more than 0; found 0 streams, 0 requests a second"),
        ("pp0:tg128:c1", "lengths need 1 <= least <= most; found 0-0"),
        ("pp9-8:tg128:c1", "lengths need 1 <= least <= most; found 9-8"),
    ],
)
def test_a_load_of_nothing_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Load.parse(text)
    assert refusal.value.message == sentence

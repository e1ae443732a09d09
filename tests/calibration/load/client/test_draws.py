"""What a seed draws: the same for every engine, of the lengths and at the times that the load says."""

from itertools import islice, pairwise
from statistics import mean

import pytest

from calibration.load.client.draws import Planned, Words, plan, prompt_ids, prompt_text
from calibration.load.load import Load
from calibration.load.trace import Arrival


def planned(label: str, count: int, seed: str = "0") -> list[Planned]:
    return list(islice(plan(Load.parse(label), seed), count))


def test_a_seed_draws_the_same_and_another_one_does_not() -> None:
    assert planned("pp10-90:tg20:r2", 50) == planned("pp10-90:tg20:r2", 50)
    assert planned("pp10-90:tg20:r2", 50) != planned("pp10-90:tg20:r2", 50, seed="1")


def test_lengths_stay_within_the_load_and_reach_its_ends() -> None:
    drawn = planned("pp10-12:tg20:c3", 2000)
    assert {p.prompt_tokens for p in drawn} == {10, 11, 12}
    assert {p.output_tokens for p in drawn} == set(range(10, 31))
    assert mean(p.output_tokens for p in drawn) == pytest.approx(20, abs=0.5)
    assert [p.number for p in drawn] == list(range(2000))
    assert {p.due_s for p in drawn} == {None}


def test_an_open_loop_comes_at_its_rate_as_a_poisson_process_does() -> None:
    due = [p.due_s for p in planned("pp8:tg8:r4", 4000) if p.due_s is not None]
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert min(gaps) >= 0
    assert mean(gaps) == pytest.approx(0.25, rel=0.05)
    # Of a Poisson process: a gap exceeds twice the mean once in e^2.
    assert sum(gap > 0.5 for gap in gaps) / len(gaps) == pytest.approx(0.135, abs=0.02)


def test_another_rate_is_the_same_arrivals_at_another_pace() -> None:
    slow, fast = planned("pp8:tg8:r1", 20), planned("pp8:tg8:r4", 20)
    assert [p.due_s for p in slow] == pytest.approx([4 * (p.due_s or 0) for p in fast])
    assert [p.output_tokens for p in slow] == [p.output_tokens for p in fast]


def test_a_trace_is_planned_as_it_came() -> None:
    arrivals = (
        Arrival(at_s=0.0, prompt_tokens=3, output_tokens=4),
        Arrival(at_s=2.5, prompt_tokens=5, output_tokens=6),
    )
    assert list(plan(Load.parse("pp3-5:tg4-6:r0.4:t01234567"), "0", arrivals)) == [
        Planned(number=0, prompt_tokens=3, output_tokens=4, due_s=0.0),
        Planned(number=1, prompt_tokens=5, output_tokens=6, due_s=2.5),
    ]


def test_prompts_are_ids_of_the_vocabulary_that_begin_unlike() -> None:
    prompts = [prompt_ids("7", number, 40, 50) for number in range(100)]
    assert {len(prompt) for prompt in prompts} == {40}
    assert {token for prompt in prompts for token in prompt} == set(range(3, 50))
    assert len({tuple(prompt[:4]) for prompt in prompts}) == 100
    assert prompts[0] == prompt_ids("7", 0, 40, 50) != prompt_ids("8", 0, 40, 50)


def test_text_has_as_many_words_as_asked_for() -> None:
    texts = [prompt_text("7", number, 30) for number in range(50)]
    assert {len(text.split()) for text in texts} == {30}
    assert len({tuple(text.split()[:4]) for text in texts}) == 50
    assert not any("  " in text for text in texts)


@pytest.mark.parametrize(
    ("told", "tokens", "words"),
    [
        ([], 12, 12),  # nothing was told yet: a token a word
        ([(10, 23), (30, 63)], 43, 20),  # two tokens a word and three more
        ([(30, 63), (10, 23), (20, 43)], 43, 20),
        ([(10, 25)], 50, 20),  # of one length: all of it by the words
        ([(10, 15), (20, 20)], 12, 4),  # half a token a word and ten more
        ([(10, 23), (30, 63)], 2, 1),  # never no word
        ([(10, 30), (20, 30)], 31, 30),  # a server that counts no words: ten of them for a token more
    ],
)
def test_words_are_as_many_as_make_the_tokens(told: list[tuple[int, int]], tokens: int, words: int) -> None:
    known = Words()
    if told:
        known.learn(told)
    assert known.of(tokens) == words

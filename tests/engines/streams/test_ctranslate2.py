"""ctranslate2 as streams: calls of requests that are alike, one after another; nothing but what it does alone."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import ctranslate2
import pytest

from calibration.backends.ctranslate2 import CTranslate2Backend
from calibration.backends.ctranslate2 import streams as module
from calibration.backends.ctranslate2.engine import GeneratorEngine
from calibration.backends.ctranslate2.streams import Batches
from calibration.engine.streams import Ability, Finish
from calibration.worker.prompts import prompts
from tests.engines import tiny_models
from tests.engines.streams import streaming
from tests.engines.streams.driven import Driver, answered, asked, come_and_go, drawn_otherwise, greedy_path, likelihoods
from tests.engines.streams.streaming import greedy, unlike, unlike_abilities
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import rows

BACKEND = CTranslate2Backend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
PROMPTS = [prompts("streams", VOCAB, length, 1)[0] for length in (5, 24, 40, 17, 24, 31)]
ALIKE = prompts("alike", VOCAB, 24, 6)
PLACES = 4
LONG = 450
"""So many tokens of a small model come in a tenth of a second, in which a test does something."""


def loaded(folder: Path, variant: str = "float32", *, places: int = PLACES) -> tuple[GeneratorEngine, Batches]:
    """The engine and the streams of one conversion."""
    tiny_models.load(BACKEND, variant, folder).close()
    artifact = folder.parent / f"{folder.name}-ctranslate2-{variant}"
    asked_job = tiny_models.job(folder, BACKEND, variant, artifact)
    job = replace(asked_job, max_batch=places, max_context_tokens=512)
    streams = BACKEND.streams(job)
    assert isinstance(streams, Batches) and BACKEND.streams_type(job.variant) is Batches
    return BACKEND.load(job), streams


@pytest.fixture(scope="module")
def llama(tiny: Folder) -> tuple[GeneratorEngine, Batches]:
    return loaded(tiny("llama"))


@pytest.fixture
def engine(llama: tuple[GeneratorEngine, Batches]) -> GeneratorEngine:
    return llama[0]


@pytest.fixture
def streams(llama: tuple[GeneratorEngine, Batches]) -> Iterator[Batches]:
    yield llama[1]
    assert llama[1].running == 0
    assert idle(llama[1])


def idle(streams: Batches) -> bool:
    """Whether the engine has nothing to do, or soon has not: a call that nobody waits for ends with its next token."""
    generator = streams._engine.generator
    end = time.monotonic() + 10
    while generator.num_active_batches and time.monotonic() < end:
        time.sleep(0.001)
    return not generator.num_active_batches


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        *((name, "float32") for name in ("llama", "llama-eos", "llama-bf16", "mistral", "qwen3", "gemma", "gpt2")),
        ("llama", "int8"),
    ],
)
def test_requests_that_come_and_go_get_what_they_would_get_alone(name: str, variant: str, tiny: Folder) -> None:
    engine, streams = loaded(tiny(name), variant, places=2)
    assert unlike(streams, greedy(engine)) == []
    streams.close()


def test_its_abilities_are_true(engine: GeneratorEngine, streams: Batches) -> None:
    assert streams.abilities == {Ability.TEMPERATURE, Ability.TOP_P, Ability.LOGPROBS}
    assert streams.batching == "static"
    assert unlike_abilities(streams, engine, within=1e-4) == []


def test_a_seed_would_not_repeat(streams: Batches) -> None:
    """Why SEED is no ability; where this fails it can be one."""
    request = replace(asked(0, PROMPTS[1], 12), temperature=2.0)
    drawn = []
    for _ in range(2):
        ctranslate2.set_random_seed(7)
        drawn.append(answered(streams, [request])["0"].tokens)
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 1.0), (1.0, 0.5)])
def test_tokens_are_drawn_as_often_as_they_are_likely(
    temperature: float, top_p: float, engine: GeneratorEngine, streams: Batches
) -> None:
    request = replace(asked(0, PROMPTS[1], 1), temperature=temperature, top_p=top_p)
    answers = answered(streams, [replace(request, id=str(n)) for n in range(600)])
    drawn = Counter(answer.tokens[0] for answer in answers.values())
    assert drawn_otherwise(drawn, likelihoods(rows(engine.score(request.prompt, ()))[0], temperature, top_p)) == []


def test_scores_of_requests_that_are_alike_are_each_its_own(engine: GeneratorEngine, streams: Batches) -> None:
    """The engine hands over the scores of a step with its first row alone."""
    requests = [replace(asked(n, ALIKE[n], 4), logprobs=1) for n in range(3)]
    for request, answer in zip(requests, streaming.answers(streams, requests).values(), strict=True):
        likeliest = [scores.likeliest[0][0] for scores in answer.scores]
        assert likeliest == answer.tokens == greedy_path(engine, request)


def test_tokens_are_told_as_they_come(streams: Batches) -> None:
    [answer] = answered(streams, [asked(0, PROMPTS[1], LONG)]).values()
    assert len(set(answer.steps)) > 1


def test_requests_that_are_alike_share_a_call_and_each_ends_by_itself(
    engine: GeneratorEngine, streams: Batches
) -> None:
    """Three of one length go before the one of another length that came between them."""
    requests = [asked(n, prompt, 5 + 4 * n) for n, prompt in enumerate([*ALIKE[:2], PROMPTS[0], ALIKE[2]])]
    answers = answered(streams, requests)
    assert [answers[r.id].tokens for r in requests] == [greedy_path(engine, r) for r in requests]
    assert answers["0"].order[-1] < answers["1"].order[-1] < answers["3"].order[-1] < answers["2"].order[0]
    assert answers["3"].order[0] < answers["0"].order[-1], "they ran side by side"


@pytest.mark.parametrize(
    ("lengths", "new_tokens", "shared"), [((24, 40), 40, True), ((24, 40), 31, False), ((24, 60), 400, False)]
)
def test_prompts_that_are_nearly_as_long_share_a_call(
    lengths: tuple[int, int], new_tokens: int, shared: bool, engine: GeneratorEngine, streams: Batches
) -> None:
    requests = [asked(n, prompts("near", VOCAB, length, 1)[0], new_tokens) for n, length in enumerate(lengths)]
    answers = answered(streams, requests)
    assert [answers[r.id].tokens for r in requests] == [greedy_path(engine, r) for r in requests]
    assert (answers["1"].order[0] < answers["0"].order[-1]) == shared


def test_requests_that_are_drawn_otherwise_do_not_share_a_call(engine: GeneratorEngine, streams: Batches) -> None:
    mixed = [replace(asked(n, ALIKE[n], 8), temperature=2.0 * (n % 2)) for n in range(4)]
    answers = answered(streams, mixed)
    assert [answers[n].tokens for n in "02"] == [greedy_path(engine, mixed[int(n)]) for n in "02"]
    assert [answers[n].tokens for n in "13"] != [greedy_path(engine, mixed[int(n)]) for n in "13"]


def test_requests_come_and_go_as_they_like(engine: GeneratorEngine, streams: Batches) -> None:
    """Drawn schedules: who is cancelled has the beginning of the tokens that he would have got, the others all."""
    asked_for = [*ALIKE[:4], *PROMPTS]
    paths = {tuple(prompt): greedy_path(engine, asked(0, prompt, 40)) for prompt in asked_for}
    come_and_go(streams, asked_for, paths, coming=0.3)


def test_a_late_request_waits_for_the_call_that_runs(streams: Batches) -> None:
    driver = Driver(streams)
    driver.add(asked(0, ALIKE[0], LONG))
    driver.until("0", 1)
    driver.add(asked(1, ALIKE[1], 4))
    answers = driver.run()
    assert answers["0"].order[-1] < answers["1"].order[0]


def test_twenty_requests_through_four_places(engine: GeneratorEngine, streams: Batches) -> None:
    requests = [asked(n, [*ALIKE, *PROMPTS][n % 12], 3 + n % 5) for n in range(20)]
    answers = answered(streams, requests)
    assert [answers[r.id].tokens for r in requests] == [greedy_path(engine, r) for r in requests]


def test_no_call_has_more_than_the_places(streams: Batches) -> None:
    driver = Driver(streams)
    driver.add(*(asked(n, ALIKE[n], 40) for n in range(PLACES + 2)))
    driver.until("3", 2)
    assert [bool(answer.tokens) for answer in driver.answers.values()] == [True] * PLACES + [False] * 2
    assert {len(answer.tokens) for answer in driver.run().values()} == {40}


def test_a_request_that_is_cancelled_frees_the_engine(engine: GeneratorEngine, streams: Batches) -> None:
    requests = [asked(0, PROMPTS[1], LONG), asked(1, PROMPTS[2], 6)]
    driver = Driver(streams)
    driver.add(*requests)
    driver.until("0", 3)
    streams.cancel("0")
    assert streams.running == 1
    answers = driver.run()
    assert len(answers["0"].tokens) < LONG and answers["0"].finish is None
    assert answers["1"].tokens == greedy_path(engine, requests[1])


def test_one_row_of_a_call_is_cancelled_and_the_others_go_on(engine: GeneratorEngine, streams: Batches) -> None:
    requests = [asked(n, ALIKE[n], LONG) for n in range(3)]
    driver = Driver(streams)
    driver.add(*requests)
    driver.until("1", 3)
    streams.cancel("1")
    assert streams.running == 2
    answers = driver.run()
    assert len(answers["1"].tokens) < LONG and answers["1"].finish is None
    assert [answers[n].tokens for n in "02"] == [greedy_path(engine, requests[int(n)]) for n in "02"]


def test_all_are_cancelled_and_the_engine_is_idle(engine: GeneratorEngine, streams: Batches) -> None:
    driver = Driver(streams)
    driver.add(asked(0, PROMPTS[0], LONG), asked(1, PROMPTS[1], 2))
    streams.cancel("1")
    driver.until("0", 1)
    streams.cancel("0")
    assert (streams.running, streams.step()) == (0, ())
    assert idle(streams)
    request = asked(2, PROMPTS[2], 4)
    assert answered(streams, [request])["2"].tokens == greedy_path(engine, request)


def test_what_would_not_fit_is_refused(streams: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="^needs prompt and new tokens of at most 512; found 513$"):
        streams.add(asked(9, PROMPTS[1], 489))
    monkeypatch.setattr(module, "SCORES_BYTES", 4 * VOCAB * 10)
    with pytest.raises(ValueError, match="^needs max_tokens of at most 10 with logprobs; found 11$"):
        streams.add(replace(asked(9, PROMPTS[1], 11), logprobs=1))


def test_a_call_that_fails_is_told_to_its_requests_alone(tiny: Folder) -> None:
    """gpt2 has 512 positions, and the caller has said that there are more."""
    engine, streams = loaded(tiny("gpt2"))
    streams._job = replace(streams._job, max_context_tokens=1000)
    requests = [asked(0, prompts("long", VOCAB, 505, 1)[0], 20), asked(1, PROMPTS[0], 4)]
    answers = answered(streams, requests)
    assert (answers["0"].finish, "position" in answers["0"].message) == (Finish.ERROR, True)
    assert answers["1"].tokens == greedy_path(engine, requests[1])
    streams.close()


def test_closing_ends_the_call_that_runs(tiny: Folder) -> None:
    _, streams = loaded(tiny("llama"))
    streams.add(asked(0, PROMPTS[1], LONG))
    streams.add(asked(1, PROMPTS[0], LONG))
    while not streams.step():
        pass
    streams.close()
    assert (streams.running, streams.step()) == (0, ())
    assert not streams._engine.generator.model_is_loaded

"""onnxruntime as streams: together on ragged graphs, else in turns; nothing but what the engine does alone."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from calibration.backend import Engine
from calibration.backends.onnxruntime import OnnxRuntimeBackend
from calibration.backends.onnxruntime.ragged import RaggedGraph
from calibration.backends.onnxruntime.streams import Together
from calibration.backends.onnxruntime.turns import Turns
from calibration.engine.streams import Ability, Finish, Streams
from calibration.worker.prompts import prompts
from tests.engines import tiny_models
from tests.engines.streams.driven import Driver, answered, asked, come_and_go, drawn_otherwise, greedy_path, likelihoods
from tests.engines.streams.streaming import greedy, unlike, unlike_abilities
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import rows

BACKEND = OnnxRuntimeBackend()
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Folder = Callable[..., Path]
PROMPTS = [prompts("streams", VOCAB, length, 1)[0] for length in (5, 24, 40, 17, 24, 31)]
PLACES = 4
TOGETHER = ("llama", "llama-tied", "llama-bf16", "llama-eos", "llama3", "mistral", "qwen2", "qwen3", "gemma", "granite")
IN_TURNS = ("gemma2", "qwen2-window", "phi3")


def loaded(folder: Path, variant: str = "fp32", *, places: int = PLACES) -> tuple[Engine, Streams]:
    """The engine and the streams of one graph."""
    tiny_models.load(BACKEND, variant, folder).close()
    artifact = folder.parent / f"{folder.name}-onnxruntime-{variant}"
    job = replace(tiny_models.job(folder, BACKEND, variant, artifact), max_batch=places)
    assert BACKEND.streams_type(job.variant) is Together
    return BACKEND.load(job), BACKEND.streams(job)


def in_pieces(folder: Path, piece_tokens: int) -> tuple[Engine, Together]:
    """Prompts are read in small pieces."""
    engine, streams = loaded(folder)
    assert isinstance(streams, Together)
    return engine, Together(streams._graph, streams._job, piece_tokens=piece_tokens)


@pytest.fixture(scope="module")
def both(tiny: Folder) -> dict[str, tuple[Engine, Streams]]:
    """By what its batching is called."""
    loads = {"continuous": loaded(tiny("llama")), "turns": loaded(tiny("phi3"))}
    assert {name: streams.batching for name, (_, streams) in loads.items()} == {name: name for name in loads}
    return loads


@pytest.fixture(params=["continuous", "turns"])
def pair(request: pytest.FixtureRequest, both: dict[str, tuple[Engine, Streams]]) -> Iterator[tuple[Engine, Streams]]:
    yield both[request.param]
    assert both[request.param][1].running == 0


@pytest.fixture
def llama(both: dict[str, tuple[Engine, Streams]]) -> tuple[Engine, Streams]:
    return both["continuous"]


@pytest.mark.parametrize(
    ("name", "variant"), [*((name, "fp32") for name in (*TOGETHER, *IN_TURNS)), ("llama", "int8"), ("llama", "int4")]
)
def test_requests_that_come_and_go_get_what_they_would_get_alone(name: str, variant: str, tiny: Folder) -> None:
    engine, streams = loaded(tiny(name), variant, places=2)
    assert isinstance(streams, Together if name in TOGETHER else Turns)
    assert unlike(streams, greedy(engine)) == []


def test_its_abilities_are_true(pair: tuple[Engine, Streams]) -> None:
    engine, streams = pair
    assert streams.abilities == frozenset(Ability)
    assert unlike_abilities(streams, engine, within=1e-4) == []


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 1.0), (1.0, 0.5)])
def test_tokens_are_drawn_as_often_as_they_are_likely(
    temperature: float, top_p: float, pair: tuple[Engine, Streams]
) -> None:
    engine, streams = pair
    request = replace(asked(0, PROMPTS[1], 1), temperature=temperature, top_p=top_p)
    draws = 600 if streams.batching == "continuous" else 200  # making a generator takes a moment
    answers = answered(streams, [replace(request, id=str(n), seed=n) for n in range(draws)])
    drawn = Counter(answer.tokens[0] for answer in answers.values())
    assert drawn_otherwise(drawn, likelihoods(rows(engine.score(request.prompt, ()))[0], temperature, top_p)) == []


def test_twenty_requests_through_four_places(pair: tuple[Engine, Streams]) -> None:
    engine, streams = pair
    requests = [asked(n, PROMPTS[n % len(PROMPTS)], 3 + n % 5) for n in range(20)]
    answers = answered(streams, requests)
    assert [answers[r.id].tokens for r in requests] == [greedy_path(engine, r) for r in requests]
    spans = [(answer.steps[0], answer.steps[-1]) for answer in answers.values()]
    running = Counter(step for first, last in spans for step in range(first, last + 1))
    assert max(running.values()) == PLACES
    # Who came first is served first.
    assert [first for first, _ in spans] == sorted(first for first, _ in spans)


def test_a_late_request_joins_those_that_run(llama: tuple[Engine, Streams]) -> None:
    driver = Driver(llama[1])
    driver.add(*(asked(n, PROMPTS[n], 10) for n in range(2)))
    driver.until("1", 3)
    before = driver.steps
    driver.add(asked(2, PROMPTS[2], 4))
    answers = driver.run()
    # Its prompt is read in the next step; then each step gives all of them a token.
    assert answers["2"].steps == [before + 1, before + 2, before + 3, before + 4]
    assert [step for step in answers["1"].steps if step > before][:3] == [before + 2, before + 3, before + 4]


def test_a_late_request_has_the_next_turn(both: dict[str, tuple[Engine, Streams]]) -> None:
    driver = Driver(both["turns"][1])
    driver.add(*(asked(n, PROMPTS[1], 10) for n in range(3)))
    driver.until("2", 2)
    before = driver.steps
    driver.add(asked(3, PROMPTS[2], 4))
    answers = driver.run()
    assert answers["3"].steps[0] == before + 1
    # From then on each has a token in every four steps.
    assert answers["0"].steps[2:6] == [before + 2 + 4 * turn for turn in range(4)]


@pytest.mark.parametrize("ended", ["0", "1", "2"])
def test_rows_move_when_a_request_ends_and_nobody_notices(ended: str, tiny: Folder) -> None:
    """Also the row of a prompt of which a part is read; and one who is cancelled leaves as one who has ended."""
    engine, streams = in_pieces(tiny("llama"), 8)
    for cancel in (False, True):
        requests = [asked(n, PROMPTS[n + 2], 30) for n in range(4)]
        if not cancel:
            requests[int(ended)] = replace(requests[int(ended)], max_tokens=6)
        driver = Driver(streams)
        driver.add(*requests[:3])
        driver.until("2", 2)
        driver.add(requests[3])
        driver.step()  # reads a piece and then decodes
        assert streams._reading is not None and streams._reading.length
        if cancel:
            streams.cancel(ended)
        answers = driver.run()
        for request in requests:
            path = greedy_path(engine, request)
            assert answers[request.id].tokens == (path[: len(answers[request.id].tokens)] if cancel else path)
        assert [n for n in "0123" if len(answers[n].tokens) == 30] == [n for n in "0123" if n != ended]


def test_requests_come_and_go_as_they_like(tiny: Folder) -> None:
    """Drawn schedules: who is cancelled has the beginning of the tokens that he would have got, the others all."""
    engine, streams = in_pieces(tiny("llama"), 8)
    paths = {tuple(prompt): greedy_path(engine, asked(0, prompt, 40)) for prompt in PROMPTS}
    come_and_go(streams, PROMPTS, paths, coming=0.2)


@pytest.mark.parametrize("name", ["llama", "gemma", "qwen3", "granite"])
def test_a_prompt_is_read_in_pieces_while_others_wait(name: str, tiny: Folder) -> None:
    engine, streams = in_pieces(tiny(name), 7)
    long, short = asked(0, PROMPTS[2], 6), asked(1, PROMPTS[0], 14)
    driver = Driver(streams)
    driver.add(short)
    driver.until("1", 2)
    driver.add(long)
    answers = driver.run()
    assert [answers[r.id].tokens for r in (long, short)] == [greedy_path(engine, r) for r in (long, short)]
    # 40 tokens are 6 pieces, and between two of them the other request has a token.
    assert sum(step < answers["0"].steps[0] for step in answers["1"].steps) == 2 + 5


def test_a_prompt_is_read_whole_where_nobody_waits(tiny: Folder) -> None:
    _, streams = in_pieces(tiny("llama"), 7)
    streams.add(asked(0, PROMPTS[2], 1))
    [delta] = streams.step()
    assert (delta.finish, streams.running) == (Finish.LENGTH, 0)


def test_the_place_of_a_request_that_is_cancelled_is_taken_at_once(pair: tuple[Engine, Streams]) -> None:
    engine, streams = pair
    requests = [asked(n, PROMPTS[n], 12) for n in range(PLACES + 1)]
    driver = Driver(streams)
    driver.add(*requests)
    driver.until("3", 3)
    streams.cancel("1")
    assert streams.running == PLACES
    driver.step()
    assert len(driver.answers["4"].tokens) == 1
    answers = driver.run()
    others = [request for request in requests if request.id != "1"]
    assert [answers[r.id].tokens for r in others] == [greedy_path(engine, r) for r in others]


def test_a_request_whose_prompt_is_read_is_cancelled(tiny: Folder) -> None:
    engine, streams = in_pieces(tiny("llama"), 7)
    driver = Driver(streams)
    driver.add(asked(0, PROMPTS[0], 12))
    driver.until("0", 1)
    driver.add(asked(1, PROMPTS[2], 5), asked(2, PROMPTS[3], 5))
    driver.step()
    streams.cancel("1")
    answers = driver.run()
    assert answers["1"].tokens == []
    assert answers["2"].tokens == greedy_path(engine, asked(2, PROMPTS[3], 5))


def test_what_a_cancelled_request_held_is_freed(pair: tuple[Engine, Streams]) -> None:
    """300 caches of 126 tokens are 28 MiB: 2 (keys, values) x 3 layers x 2 heads x 16 numbers of 4 bytes a token."""
    _, streams = pair
    process = psutil.Process()

    def come_and_go(times: int) -> int:
        for number in range(times):
            streams.add(asked(number, PROMPTS[0], 121))
            streams.step()
            streams.cancel(str(number))
        return int(process.memory_info().rss)

    before = come_and_go(50)
    assert come_and_go(300) - before < 8 << 20


def test_no_token_ends_it_that_was_not_asked_to(tiny: Folder) -> None:
    """gemma's second path goes through the last token of the vocabulary, and llama-eos's through its own end."""
    for name, token in (("gemma", VOCAB - 1), ("llama-eos", 45)):
        engine, streams = loaded(tiny(name))
        request = asked(0, tiny_models.asked_prompts()[1], 8)
        answer = answered(streams, [request])["0"]
        assert token in answer.tokens[:-1], name
        assert (answer.tokens, answer.finish) == (greedy_path(engine, request), Finish.LENGTH)
        ended = answered(streams, [replace(request, end_tokens=frozenset({token}))])["0"]
        assert (ended.tokens, ended.finish) == (answer.tokens[: answer.tokens.index(token) + 1], Finish.STOP)


def test_what_the_engine_cannot_do_is_told_to_that_request_alone(tiny: Folder, llama: tuple[Engine, Streams]) -> None:
    """Mistral's window is 16, and its graph takes no prompt that is longer."""
    with pytest.raises(ValueError, match="^needs prompt and new tokens of at most 128; found 129$"):
        llama[1].add(asked(9, PROMPTS[1], 105))
    engine, streams = loaded(tiny("mistral-window"))
    requests = [asked(0, PROMPTS[0], 4), asked(1, PROMPTS[2], 4), asked(2, PROMPTS[0], 3)]
    answers = answered(streams, requests)
    assert "total_sequence_length" in answers["1"].message
    assert [answers[n].finish for n in "012"] == [Finish.LENGTH, Finish.ERROR, Finish.LENGTH]
    assert [answers[n].tokens for n in "02"] == [greedy_path(engine, requests[int(n)]) for n in "02"]


def test_a_prompt_that_fails_is_told_to_its_request_alone(tiny: Folder) -> None:
    """A token beyond the vocabulary, which a worker lets through to no engine."""
    engine, streams = loaded(tiny("llama"))
    requests = [asked(0, PROMPTS[0], 6), asked(1, [5, VOCAB, 5], 6), asked(2, PROMPTS[2], 6)]
    answers = answered(streams, requests)
    assert (answers["1"].finish, answers["1"].tokens) == (Finish.ERROR, [])
    assert "out of data bounds" in answers["1"].message
    assert [answers[n].tokens for n in "02"] == [greedy_path(engine, requests[int(n)]) for n in "02"]


def test_caches_take_no_more_memory_than_their_sequences(tiny: Folder) -> None:
    """Places of 65536 tokens: 4 MiB for each head of each row of each cache, of which 96 are reached."""
    loaded(tiny("llama"))[0].close()
    artifact = tiny("llama").parent / f"{tiny('llama').name}-onnxruntime-fp32"
    job = replace(tiny_models.job(tiny("llama"), BACKEND, "fp32", artifact), max_batch=8, max_context_tokens=65536)
    graph = RaggedGraph(job)
    before = psutil.Process().memory_info().rss
    for row in range(8):
        graph.read(row, 0, [5, 6, 7])
    graph.append([5] * 8, [3] * 8)
    assert psutil.Process().memory_info().rss - before < 32 << 20


def test_closing_drops_what_runs(tiny: Folder) -> None:
    for name in ("llama", "phi3"):
        _, streams = loaded(tiny(name))
        streams.add(asked(0, PROMPTS[1], 12))
        streams.step()
        streams.close()
        assert (streams.running, streams.step()) == (0, ())

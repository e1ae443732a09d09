"""What every Streams must do, whatever its engine: the same requests, and what it did otherwise."""

import queue
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Engine, Job
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams, TokenScores
from calibration.supervision.replies import Reply, Trouble
from calibration.supervision.serving import ServingWorker
from calibration.supervision.supervisor import Worker
from calibration.worker.opening import Opening
from tests.engines import tiny_models

NEW_TOKENS = 8
LENGTHS = (24, 9, 17)
"""Of prompts. Different, so that a request that joins others stands elsewhere than they do."""


@dataclass(slots=True)
class Answer:
    """What came for one request."""

    tokens: list[int] = field(default_factory=list)
    scores: list[TokenScores] = field(default_factory=list)
    pieces: int = 0
    """Deltas with tokens."""
    finish: Finish | None = None
    message: str = ""


def prompts() -> list[tuple[int, ...]]:
    whole = tiny_models.asked_prompts(max(LENGTHS))
    return [tuple(row[:length]) for row, length in zip(whole, LENGTHS, strict=True)]


def requests(new_tokens: int = NEW_TOKENS, **fields: Any) -> list[Request]:
    """One for each prompt, `0`, `1` and `2`."""
    return [
        Request(id=str(number), prompt=prompt, max_tokens=new_tokens, **fields)
        for number, prompt in enumerate(prompts())
    ]


def greedy(engine: Engine, new_tokens: int = NEW_TOKENS) -> dict[str, list[int]]:
    """What the engine generates for each prompt alone, by the request's id."""
    return {
        request.id: [int(token) for token in engine.generate([request.prompt], new_tokens).tokens[0]]
        for request in requests()
    }


def answers(
    streams: Streams,
    asked: Iterable[Request],
    *,
    apart: int = 0,
    between: Callable[[int, Streams], None] = lambda _step, _streams: None,
) -> dict[str, Answer]:
    """Step until all is answered.

    Args:
        apart: steps between one request and the next.
        between: called before each step with its number.
    """
    waiting = list(asked)
    got = {request.id: Answer() for request in waiting}
    step = 0
    while waiting or streams.running:
        while waiting and (not apart or step % apart == 0):
            streams.add(waiting.pop(0))
            if apart:
                break
        between(step, streams)
        if streams.running:
            take(got, streams.step())
        step += 1
        assert step < 1000, "it does not come to an end"
    return got


def take(got: dict[str, Answer], deltas: Iterable[Delta]) -> None:
    """Put deltas to the answers they belong to; one that belongs to none, or comes after the end, is an error."""
    for delta in deltas:
        answer = got[delta.id]
        assert answer.finish is None, f"{delta} came after the end"
        assert not answer.scores or len(answer.scores) == len(answer.tokens)
        answer.tokens += delta.tokens
        answer.scores += delta.scores
        answer.pieces += bool(delta.tokens)
        answer.finish, answer.message = delta.finish, delta.message


def unlike(streams: Streams, expected: Mapping[str, Sequence[int]], *, whole: bool = False) -> list[str]:
    """What streams do otherwise than they must, asked for greedy tokens; nothing for right ones.

    Args:
        streams: of two requests at once at most, so that of three one waits.
        expected: what the engine generates, see `greedy`.
        whole: each answer comes in one piece.
    """
    found = []

    def compare(name: str, got: Mapping[str, Answer], paths: Mapping[str, Sequence[int]], finish: Finish) -> None:
        told = {key: (answer.tokens, answer.finish) for key, answer in got.items()}
        wanted = {key: (list(paths[key]), finish) for key in got}
        if told != wanted:
            found.append(f"{name}: {told}, not {wanted}")

    one = answers(streams, requests()[:1])
    compare("alone", one, expected, Finish.LENGTH)
    if not whole and one["0"].pieces < NEW_TOKENS // 2:
        found.append(f"{NEW_TOKENS} tokens came in {one['0'].pieces} pieces")
    compare("at once", answers(streams, requests()), expected, Finish.LENGTH)
    for apart in (1, 3):
        compare(f"{apart} steps apart", answers(streams, requests(), apart=apart), expected, Finish.LENGTH)
    compare(
        "one token", answers(streams, requests(1)), {key: path[:1] for key, path in expected.items()}, Finish.LENGTH
    )

    ends = {key: path[NEW_TOKENS // 2] for key, path in expected.items()}
    short = {key: path[: list(path).index(ends[key]) + 1] for key, path in expected.items()}
    ended = [replace(request, end_tokens=frozenset({ends[request.id]})) for request in requests()]
    compare("end tokens", answers(streams, ended, apart=1), short, Finish.STOP)
    if streams.running:
        found.append(f"{streams.running} run when all is answered")
    return found + _unlike_cancelled(streams, expected)


def _unlike_cancelled(streams: Streams, expected: Mapping[str, Sequence[int]]) -> list[str]:
    """The second request is cancelled while it runs, the third while it waits; then all are asked for once more."""
    found = []
    got: dict[str, Answer] = {request.id: Answer() for request in requests()}
    for request in requests():
        streams.add(request)
    take(got, streams.step())
    running = streams.running
    streams.cancel("1")
    streams.cancel("2")
    streams.cancel("nobody")
    if running == 3 and streams.running != 1:
        found.append(f"{streams.running} run where one was left")
    before = {name: list(got[name].tokens) for name in ("1", "2")}
    _run_out(streams, got)
    if {name: got[name].tokens for name in before} != before:
        found.append("tokens came after the end of their request")
    if got["0"].tokens != list(expected["0"]):
        found.append(f"cancelling others changed {got['0'].tokens}, not {expected['0']}")
    streams.add(requests(64)[0])
    take({"0": Answer()}, streams.step())
    streams.cancel("0")
    if streams.running:
        found.append("a request that was cancelled alone runs")
    again = answers(streams, requests())
    if {key: answer.tokens for key, answer in again.items()} != {key: list(path) for key, path in expected.items()}:
        found.append("other tokens after a request was cancelled")
    return found


def _run_out(streams: Streams, got: dict[str, Answer]) -> None:
    while streams.running:
        take(got, streams.step())


def unlike_abilities(streams: Streams, engine: Engine, *, within: float) -> list[str]:
    """Where its abilities are not what it says.

    Args:
        engine: gives the scores that log-probabilities are compared with.
        within: nats.
    """
    found = []
    paths = greedy(engine)

    def drawn(**fields: Any) -> dict[str, list[int]]:
        return {key: answer.tokens for key, answer in answers(streams, requests(**fields), apart=1).items()}

    if Ability.TEMPERATURE in streams.abilities:
        if len({tuple(drawn(temperature=2.0)["0"]) for _ in range(8)}) < 4:
            found.append("temperature draws the same answer again and again")
        if drawn(temperature=1e-4) != paths:
            found.append("a temperature near 0 is not greedy")
    if Ability.TOP_P in streams.abilities and drawn(temperature=2.0, top_p=1e-4) != paths:
        found.append("a top_p near 0 is not greedy")
    if Ability.SEED in streams.abilities:
        first = drawn(temperature=2.0, seed=5)
        if drawn(temperature=2.0, seed=5) != first:
            found.append("a seed does not repeat its answer")
        alone = answers(streams, [replace(requests(temperature=2.0, seed=5)[1], id="alone")])["alone"].tokens
        if alone != first["1"]:
            found.append("a seed gives another answer alone than beside others")
        if drawn(temperature=2.0, seed=6) == first:
            found.append("two seeds give the same answer")
        if len({tuple(drawn(temperature=2.0, seed=seed)["0"]) for seed in (-1, 0, (1 << 63) - 1)}) != 3:
            found.append("seeds at the ends of their range give the same answer")
    if Ability.LOGPROBS in streams.abilities:
        found += _unlike_scores(streams, engine, within)
    return found


def _unlike_scores(streams: Streams, engine: Engine, within: float) -> list[str]:
    """Greedy and drawn: the log-probabilities are the model's own, the likeliest first, whatever the temperature."""
    import numpy as np

    found = []
    mixed = [replace(request, logprobs=count) for request, count in zip(requests(), (3, 0, 1), strict=True)]
    mixed[2] = replace(mixed[2], temperature=2.0, seed=3)
    for request in mixed:
        got = answers(streams, [request, *(other for other in mixed if other is not request)], apart=1)[request.id]
        if not request.logprobs:
            if got.scores:
                found.append("log-probabilities for a request that asked for none")
            continue
        rows = tiny_models.rows(engine.score(request.prompt, got.tokens[:-1])).astype(np.float64)
        told = (
            rows
            - np.log(np.exp(rows - rows.max(-1, keepdims=True)).sum(-1, keepdims=True))
            - rows.max(-1, keepdims=True)
        )
        for row, token, scores in zip(told, got.tokens, got.scores, strict=True):
            best = sorted(row, reverse=True)[: request.logprobs]
            if not abs(scores.chosen - row[token]) < within:
                found.append(f"{scores.chosen} for the chosen token, not {row[token]}")
            values = [value for _, value in scores.likeliest]
            if len(values) != request.logprobs or not np.allclose(values, best, atol=within):
                found.append(f"{values} for the likeliest tokens, not {best}")
            if not all(abs(row[likely] - value) < within for likely, value in scores.likeliest):
                found.append("log-probabilities of other tokens than those told")
    return found


def streams_of(backend: Backend, variant: str, folder: Path, artifact: Path | None = None, **fields: Any) -> Streams:
    """Streams of two requests at once on a checkpoint that `artifact` was made of, where the variant prepares."""
    job = tiny_models.job(folder, backend, variant, artifact)
    return backend.streams(replace(job, **{"max_batch": 2, **fields}))


def in_a_worker(job: Job, backend: Backend, asked: Sequence[Request], log: Path) -> dict[str, Answer]:
    """The answers of a worker process that serves; the last request is added when the first tokens have come."""
    got = {request.id: Answer() for request in asked}
    come: queue.SimpleQueue[Sequence[Delta] | Trouble] = queue.SimpleQueue()
    with Worker(Path(sys.executable), log=log, memory_limit_bytes=8 << 30) as worker:
        for verb, fields in (("open", Opening(backend=backend.name, job=job).request()), ("load_streams", {})):
            reply = worker.ask(verb, timeout_s=120, **fields)
            assert isinstance(reply, Reply), (reply, worker.log_tail())
        serving = ServingWorker(worker, on_deltas=come.put, on_end=come.put)
        try:
            assert serving.start() is None
            for request in asked[:-1]:
                serving.add(request)
            late = list(asked[-1:])
            while any(answer.finish is None for answer in got.values()):
                deltas = come.get(timeout=120)
                assert not isinstance(deltas, Trouble), (deltas, worker.log_tail())
                take(got, deltas)
                if late:
                    serving.add(late.pop())
        finally:
            serving.kill()
    return got

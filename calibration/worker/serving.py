"""How a worker serves: requests come as lines on one pipe, each step's deltas go as one line on the other.

The thread that called `serve` owns the engine; a second one reads the pipe, so that a long step never keeps a writer
waiting. Lines to the worker are {"verb": "add", ...}, {"verb": "cancel", "id": ...} and {"verb": "close"};
lines from it {"event": "deltas", "deltas": [...]}.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

from calibration.engine.streams import Delta, Finish, Request, TokenScores

if TYPE_CHECKING:
    from calibration.engine.streams import Streams

DELTAS = "deltas"


def serve(streams: "Streams", vocab_size: int, commands: Iterable[str], events: IO[str]) -> None:
    """Serve until a `close` comes or the pipe ends; requests that still run then are dropped.

    A request that cannot be answered is told as a delta with Finish.ERROR, and the others go on.

    Args:
        vocab_size: token ids of prompts are below it. Most engines look embeddings up unchecked: another id ends the
            process, or gives an answer to another prompt.
    """
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands, inbox.put), daemon=True).start()

    def tell(deltas: Iterable[Delta]) -> None:
        lines = [delta_to_plain(delta) for delta in deltas]
        if lines:
            events.write(json.dumps({"event": DELTAS, DELTAS: lines}) + "\n")
            events.flush()

    while True:
        for command in _due(inbox, wait=not streams.running):
            match command.pop("verb"):
                case "close":
                    return
                case "cancel":
                    streams.cancel(command["id"])
                case "add":
                    try:
                        streams.add(_checked(command, streams, vocab_size))
                    except ValueError as error:
                        tell([Delta(id=command["id"], finish=Finish.ERROR, message=str(error))])
                case verb:
                    raise LookupError(f"a worker that serves was told to {verb}")
        if streams.running:
            tell(streams.step())


def _checked(fields: dict[str, Any], streams: "Streams", vocab_size: int) -> Request:
    """The request of an `add`.

    Raises:
        ValueError: no engine could answer it, or this one cannot.
    """
    request = request_from_plain(fields)
    strange = next((token for token in request.prompt if not 0 <= token < vocab_size), None)
    if strange is not None:
        raise ValueError(f"needs token ids from 0 to {vocab_size - 1}; found {strange}")
    if missing := request.needs() - streams.abilities:
        raise ValueError(f"needs an engine that can do {', '.join(sorted(missing))}; this one cannot")
    return request


def _read(commands: Iterable[str], put: Callable[[dict[str, Any]], None]) -> None:
    """Hand over each command, and a `close` when no more are heard: the pipe has ended, or a line was none."""
    try:
        for line in commands:
            command = json.loads(line)
            closes = command["verb"] == "close"  # who takes the command, at once on another thread, takes its verb out
            put(command)
            if closes:
                return
    finally:
        put({"verb": "close"})


def _due(inbox: "queue.SimpleQueue[dict[str, Any]]", *, wait: bool) -> Iterator[dict[str, Any]]:
    """What has come; where nothing runs, the next that comes."""
    try:
        yield inbox.get(block=wait)
        while True:
            yield inbox.get(block=False)
    except queue.Empty:
        return


def request_to_plain(request: Request) -> dict[str, Any]:
    """The fields of a command `add`."""
    return {
        "id": request.id,
        "prompt": list(request.prompt),
        "max_tokens": request.max_tokens,
        "end_tokens": sorted(request.end_tokens),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "logprobs": request.logprobs,
    }


def request_from_plain(fields: dict[str, Any]) -> Request:
    """Read what `request_to_plain` wrote.

    Raises:
        ValueError: see Request.
    """
    return Request(
        **{**fields, "prompt": tuple(fields["prompt"]), "end_tokens": frozenset(fields["end_tokens"])},
    )


def delta_to_plain(delta: Delta) -> list[Any]:
    """[id, tokens, finish, message, scores]: what most deltas lack stands last, and is left out."""
    plain: list[Any] = [
        delta.id,
        list(delta.tokens),
        delta.finish,
        delta.message,
        [[scores.chosen, [list(pair) for pair in scores.likeliest]] for scores in delta.scores],
    ]
    while len(plain) > 2 and not plain[-1]:
        plain.pop()
    return plain


def delta_from_plain(plain: list[Any]) -> Delta:
    """Read what `delta_to_plain` wrote."""
    if len(plain) == 2:  # most are such
        return Delta(id=plain[0], tokens=tuple(plain[1]))
    filled: list[Any] = [*plain, *(None, "", ())[len(plain) - 2 :]]
    name, tokens, finish, message, scores = filled
    return Delta(
        id=name,
        tokens=tuple(tokens),
        finish=Finish(finish) if finish else None,
        message=message,
        scores=tuple(
            TokenScores(chosen=chosen, likeliest=tuple((token, score) for token, score in likeliest))
            for chosen, likeliest in scores
        ),
    )

"""The points of a launch under load as a text of its row, and back. Standard library only."""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from calibration.codec import from_plain, to_plain
from calibration.load.sample import Asked, Point


def packed(points: Sequence[Point]) -> str:
    """`[[POINT, [[number, due_s, sent_s, prompt_tokens, output_tokens, cached_tokens, error, counted, [chunk, ...]],
    ...]], ...]` as JSON, compressed: a point without its requests, and a list for each request.

    Raises:
        ValueError: a time is no finite number.
    """
    content = [[to_plain(replace(point, asked=())), [_request(asked) for asked in point.asked]] for point in points]
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode())).decode("ascii")


def unpacked(text: str) -> tuple[Point, ...]:
    """Read what `packed` wrote.

    A selection reads the requests of dozens of launches, each with a time for every chunk: so their fields are looked
    at here and not one by one by the codec, which takes ten times as long.

    Raises:
        ValueError, TypeError: it is malformed.
    """
    try:
        content = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    except (zlib.error, TypeError) as error:
        raise ValueError(f"needs packed points; found {text!r:.40}") from error
    if not isinstance(content, list) or not content:
        raise ValueError(f"needs a list of points; found {content!r:.40}")
    return tuple(
        replace(from_plain(Point, point), asked=tuple(_asked(*request) for request in requests))
        for point, requests in content
    )


def _request(asked: Asked) -> list[Any]:
    return [
        *(asked.number, None if asked.due_s is None else float(asked.due_s), float(asked.sent_s)),
        *(asked.prompt_tokens, asked.output_tokens, asked.cached_tokens),
        *(asked.error, asked.counted, [*map(float, asked.chunks_s)]),
    ]


def _asked(
    number: Any, due_s: Any, sent_s: Any, prompt: Any, output: Any, cached: Any, error: Any, counted: Any, chunks: Any
) -> Asked:
    counts = (number, prompt, output, cached)
    times = [sent_s, *chunks] if due_s is None else [due_s, sent_s, *chunks]
    # `packed` writes floats; another program may have written the file.
    if {*map(type, counts)} != {int} or {*map(type, times)} != {float} or type(error) is not str:
        raise TypeError(f"request {number!r} is no request")
    return Asked(
        number=number,
        due_s=due_s,
        sent_s=sent_s,
        prompt_tokens=prompt,
        output_tokens=output,
        cached_tokens=cached,
        error=error,
        counted=bool(counted),
        chunks_s=tuple(chunks),
    )

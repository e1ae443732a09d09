"""Points as a load leaves them, told in a few numbers: streams in step, chunks of a token at equal distances."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.load.load import Load
from calibration.load.sample import Asked, End, Point
from calibration.load.trace import Arrival, Trace

C2 = Load.parse("pp16:tg8:c2")
C4 = Load.parse("pp16:tg8:c4")


def point(load: Load, *, tps: float, ttft_s: float = 0.1, rounds: int = 5, **changes: Any) -> Point:
    """What `load` leaves where all streams together have so many tokens a second, and wait so long for the first."""
    tokens, streams = round(load.output.mean), load.streams or 1
    answer_s = streams * tokens / tps
    tpot_s = (answer_s - ttft_s) / (tokens - 1)
    assert tpot_s > 0, "an answer would end before its first token"
    asked = [
        Asked(
            number=number * streams + stream,
            sent_s=number * answer_s,
            due_s=None if load.closed else number * answer_s,
            chunks_s=tuple(number * answer_s + ttft_s + i * tpot_s for i in range(tokens)),
            prompt_tokens=round(load.prompt.mean),
            output_tokens=tokens,
            counted=number > 0,
        )
        for number in range(rounds + 1)
        for stream in range(streams)
    ]
    made = Point(
        load=load,
        seed=0,
        asked=tuple(asked),
        begin_s=answer_s + 1e-6,  # after the last chunk of the first round, however it was rounded
        end_s=(rounds + 1) * answer_s + 1e-6,
        end=End.REQUESTS,
        foreign_share=0.01,
        client_cores=0.02,
        peak_memory_bytes=1 << 30,
    )
    return replace(made, **changes)


def trace_of(count: int = 20, *, every_s: float = 0.5, name: str = "requests") -> Trace:
    """Requests at equal distances, each a token longer than the one before."""
    arrivals = (
        Arrival(at_s=round(every_s * i, 5), prompt_tokens=16 + i, output_tokens=4 + i % 5) for i in range(count)
    )
    return Trace(arrivals=tuple(arrivals), name=name)


def write_trace(file: Path, trace: Trace) -> Path:
    """Our own format."""
    rows = ((a.at_s + 100.0, a.prompt_tokens, a.output_tokens) for a in trace.arrivals)
    names = ("arrival_s", "prompt_tokens", "output_tokens")
    file.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    return file


def replayed(trace: Trace, *, ttft_s: float = 0.1, tpot_s: float = 0.02, **changes: Any) -> Point:
    """What a trace leaves at a server that answers each request in this time, however many there are."""
    asked = tuple(
        Asked(
            number=number,
            due_s=came.at_s,
            sent_s=came.at_s,
            chunks_s=tuple(round(came.at_s + ttft_s + i * tpot_s, 5) for i in range(came.output_tokens)),
            prompt_tokens=came.prompt_tokens,
            output_tokens=came.output_tokens,
        )
        for number, came in enumerate(trace.arrivals)
    )
    made = Point(
        load=trace.load,
        seed=0,
        asked=asked,
        begin_s=0.0,
        end_s=max(one.last_s for one in asked),
        end=End.REQUESTS,
        foreign_share=0.01,
        client_cores=0.02,
        peak_memory_bytes=1 << 30,
    )
    return replace(made, **changes)

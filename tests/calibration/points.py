"""Points as a load leaves them, told in a few numbers: streams in step, chunks of a token at equal distances."""

from dataclasses import replace
from typing import Any

from calibration.load.load import Load
from calibration.load.sample import Asked, End, Point

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

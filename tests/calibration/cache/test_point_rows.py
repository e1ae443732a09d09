"""Points as a text of their row: every raw time comes back, and what another program wrote is looked at."""

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from calibration.cache.rows.point_rows import packed, unpacked
from calibration.load.load import Load
from calibration.load.sample import Asked, RequestTargets
from tests.calibration.points import C2, C4, point

FAILED = Asked(number=99, sent_s=1, prompt_tokens=16, output_tokens=0, error="503: loading", counted=False)
"""Without a chunk, and with whole seconds."""


def test_what_goes_in_comes_out() -> None:
    open_loop = point(Load.parse("pp16:tg8:r2"), tps=64.0, ttft_s=0.01, targets=RequestTargets(ttft_s=0.5))
    points = (
        replace(point(C4, tps=100.0), asked=(*point(C4, tps=100.0).asked, FAILED)),
        point(C2, tps=60.0, void="others", foreign_share=0.2),
        replace(open_loop, saturated="in flight: 40"),
    )
    assert unpacked(packed(points)) == points
    assert all(asked.due_s is not None for asked in unpacked(packed(points))[2].asked)


def test_a_time_that_is_no_number_is_refused() -> None:
    spoiled = replace(point(C4, tps=100.0), asked=(replace(FAILED, sent_s=float("nan")),))
    with pytest.raises(ValueError, match="Out of range float"):
        packed((spoiled,))


def changed(change: Callable[[Any], Any]) -> str:
    content = json.loads(zlib.decompress(base64.b64decode(packed((point(C4, tps=100.0),)))))
    return base64.b64encode(zlib.compress(json.dumps(change(content)).encode())).decode()


def with_request(place: int, value: object) -> Callable[[Any], Any]:
    def change(content: Any) -> Any:
        content[0][1][0][place] = value
        return content

    return change


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        base64.b64encode(b"no zlib").decode(),
        changed(lambda _: []),
        changed(lambda _: {"points": 1}),
        changed(lambda content: [[{**content[0][0], "speed": 1}, content[0][1]]]),
        changed(lambda content: [[content[0][0], [[1, 2]]]]),
        changed(with_request(0, "first")),
        changed(with_request(2, 1)),
        changed(with_request(6, None)),
        changed(with_request(8, ["soon"])),
    ],
)
def test_what_is_malformed_is_said(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        unpacked(text)

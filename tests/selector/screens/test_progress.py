"""The lines of a running calibration, and what it ends with."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from calibration.conversion.estimate import Estimate
from calibration.race.runner import Tally
from selector.planning.calibrate import Calibration
from selector.planning.plan import plan
from selector.planning.preparations import Preparations
from selector.screens.calibrate import sentences, table
from selector.screens.progress import Progress
from selector.screens.text import listing
from tests.selector.launches import LOSSY, model_and_host, rounds

MODEL = "shape:smollm2-135m"
LONG = Estimate(seconds=125.0, bytes=2 << 30, scratch_bytes=0)


def said(*events: tuple[str, dict[str, Any]]) -> list[str]:
    """What a progress display without a terminal writes."""
    out = io.StringIO()
    with Progress(Console(file=out, width=200)) as progress:
        for name, fields in events:
            progress.event(name, **fields)
    return out.getvalue().splitlines()


def preparing(elapsed_s: float) -> tuple[str, dict[str, Any]]:
    far = {"candidate": "openvino:int8-pa", "estimate": LONG, "elapsed_s": elapsed_s, "bytes": 1 << 30}
    return "preparing", far


def test_a_conversion_that_takes_more_than_was_expected_says_so() -> None:
    expected = Estimate(seconds=8.0, bytes=96 << 20, scratch_bytes=270 << 20)
    far = {"candidate": "llamacpp:q4_0", "estimate": expected, "elapsed_s": 20.0}
    assert said(("preparing", {**far, "bytes": 307 << 20})) == [
        "converted model: 0.3 GiB of about 0.4 GiB, 20 s, expected were 8 s"
    ]
    assert said(("preparing", {**far, "bytes": 1 << 30})) == ["converted model: 1.0 GiB, 20 s, expected were 8 s"]


def test_who_is_converted_beside_it_is_said() -> None:
    others = ["onnxruntime:fp32", "openvino:fp16-pa"]
    assert said(("alongside", {"candidate": "llamacpp:f16", "others": others})) == [
        "converting for onnxruntime:fp32, openvino:fp16-pa, too"
    ]


def test_a_conversion_is_followed_in_lines_that_come_once_in_a_while() -> None:
    launch = ("launch", {"candidate": "openvino:int8-pa", "left_s": None})
    lines = said(
        launch,
        ("waiting", {"candidate": "openvino:int8-pa"}),
        ("prepare", {"candidate": "openvino:int8-pa", "estimate": LONG}),
        *(preparing(elapsed / 2) for elapsed in range(1, 90)),
        launch,
        preparing(20.0),
    )
    assert lines == [
        f"openvino:int8-pa  {text}"
        for text in (
            "starting",
            "waiting for another calibration that converts the same",
            "converting the model, once: about 2:05 min, 2.0 GiB",
            "converted model: 1.0 GiB of about 2.0 GiB, 20 s of about 2:05 min",
            "converted model: 1.0 GiB of about 2.0 GiB, 40 s of about 2:05 min",
            "starting",
            "converted model: 1.0 GiB of about 2.0 GiB, 20 s of about 2:05 min",
        )
    ]


def test_the_plan_says_what_is_made_first() -> None:
    made = Preparations(
        checkpoint=LONG, conversions=(("openvino:int8-pa", LONG),), free_bytes=9 << 30, disk=Path("/disk")
    )
    line, blank = said(("preparations", {"made": made}))
    assert line == (
        "prepares    once, about 4:10 min and 4.0 GiB of the 9.0 GiB free on /disk: random weights (2:05 min, 2.0 GiB),"
        " openvino:int8-pa (2:05 min, 2.0 GiB)"
    )
    assert blank == ""
    nothing = Preparations(checkpoint=None, conversions=(), free_bytes=9 << 30, disk=Path("/disk"))
    assert said(("preparations", {"made": nothing})) == [""]


def calibration(check_s: float, seconds: float, fresh: bool = True) -> Calibration:
    _, host, key = model_and_host(MODEL)
    exact = rounds("transformers:sdpa", key, host, (1.0, 1.0))
    made = [
        replace(m, prepare_s=9.25, artifact_bytes=1 << 28)
        for m in rounds("ctranslate2:int8", key, host, (0.5, 0.5), agreement=LOSSY)
    ]
    tally = Tally(
        calibration_id="c1",
        outcomes=(*exact, *made),
        fresh=frozenset({exact[0].run_id}) if fresh else frozenset(),
        out={},
        ended="rounds",
        unmeasured=(),
        check_s=check_s,
        seconds=seconds,
    )
    return Calibration(plan=plan(MODEL, host=host), tally=tally, cache="here")


def test_the_table_shows_what_a_conversion_took() -> None:
    lines = table(calibration(1.0, 2.0))
    assert [[cell.strip() for cell in re.split(r" {3,}", line)] for line in lines] == [
        ["candidate", "launches", "prefill pp512 b1", "decode tg32 b1", "peak memory", "converted in", "output"],
        [
            "ctranslate2:int8",
            "2",
            "990 ± 165 tok/s",
            "90.9 ± 15.2 tok/s",
            "1.0 GiB",
            "9.25 s, 0.2 GiB",
            "lossy (KL 0.012)",
        ],
        ["transformers:sdpa", "2", "495 ± 83 tok/s", "45.5 ± 7.6 tok/s", "1.0 GiB", "-", "right"],
    ]


def test_the_share_of_the_correctness_checks_is_said_where_something_was_measured() -> None:
    assert "Correctness checks took 9 % of 240 s." in sentences(calibration(21.6, 240.0))
    assert not any("Correctness" in line for line in sentences(calibration(21.6, 240.0, fresh=False)))


def test_names_are_listed_as_one_says_them() -> None:
    assert [listing(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]

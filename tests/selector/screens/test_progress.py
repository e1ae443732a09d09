"""The lines of a running calibration, and what it ends with."""

import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from calibration.conversion.estimate import Estimate
from calibration.events import (
    CandidateOut,
    CellBegan,
    CheckBegan,
    CheckEnded,
    ConversionBegan,
    ConvertedAlongside,
    LaunchBegan,
    LaunchEnded,
    LaunchGivenUp,
    LoadBegan,
    LoadEnded,
    RaceEnded,
    ReferenceBegan,
    ReferenceFailed,
    RoundBegan,
    WaitingForAnother,
    WritingContinues,
)
from calibration.race.tally import Tally
from calibration.workload import grid
from selector.planning.calibration import Calibration
from selector.planning.events import CalibrationEvent, PreparationsKnown, ProbeBegan, ProbeEnded, ProbeFailed
from selector.planning.plan import plan
from selector.planning.preparations import Preparations
from selector.screens.calibration.progress import Progress
from selector.screens.calibration.results import sentences, table
from selector.screens.calibration.steps import launched
from selector.screens.text import listing
from tests.calibration.probes import probed
from tests.selector.launches import LOSSY, RIGHT, check, model_and_host, rounds

MODEL = "shape:smollm2-135m"
LONG = Estimate(seconds=125.0, bytes=2 << 30, scratch_bytes=0)


def said(*events: CalibrationEvent) -> list[str]:
    """What a progress display without a terminal writes."""
    out = io.StringIO()
    with Progress(Console(file=out, width=200)) as progress:
        for event in events:
            progress.report(event)
    return out.getvalue().splitlines()


def written(elapsed_s: float, written_bytes: int = 1 << 30, expected: Estimate = LONG) -> WritingContinues:
    return WritingContinues(what="converted model", expected=expected, elapsed_s=elapsed_s, written_bytes=written_bytes)


def test_a_conversion_that_takes_more_than_was_expected_says_so() -> None:
    expected = Estimate(seconds=8.0, bytes=96 << 20, scratch_bytes=270 << 20)
    assert said(written(20.0, 307 << 20, expected)) == [
        "converted model: 0.3 GiB of about 0.4 GiB, 20 s so far (8 s expected)"
    ]
    assert said(written(20.0, 1 << 30, expected)) == ["converted model: 1.0 GiB, 20 s so far (8 s expected)"]


def test_who_is_converted_beside_it_is_said() -> None:
    others = ("onnxruntime:fp32", "openvino:fp16-pa")
    assert said(ConvertedAlongside(candidate="llamacpp:f16", others=others)) == [
        "converting for onnxruntime:fp32, openvino:fp16-pa, too"
    ]


def test_a_conversion_is_followed_in_lines_that_come_once_in_a_while() -> None:
    launch = LaunchBegan(candidate="openvino:int8-pa", left_s=None)
    lines = said(
        launch,
        WaitingForAnother(doing="converts the same"),
        ConversionBegan(candidate="openvino:int8-pa", expected=LONG),
        *(written(elapsed / 2) for elapsed in range(1, 90)),
        launch,
        written(20.0),
    )
    assert lines == [
        f"openvino:int8-pa  {text}"
        for text in (
            "starting",
            "waiting for another calibration that converts the same",
            "converting the model, once: about 2:05 min, 2.0 GiB",
            "converted model: 1.0 GiB of about 2.0 GiB, 20 s so far (2:05 min expected)",
            "converted model: 1.0 GiB of about 2.0 GiB, 40 s so far (2:05 min expected)",
            "starting",
            "converted model: 1.0 GiB of about 2.0 GiB, 20 s so far (2:05 min expected)",
        )
    ]


def test_every_step_of_a_launch_is_a_line_but_the_later_cells() -> None:
    label, (first, second, *_) = "openvino:fp32", grid()
    outcome = calibration(1.0, 2.0).tally.outcomes[0]
    assert said(
        RoundBegan(number=2, of=3, candidates=(label,)),
        LaunchBegan(candidate=label, left_s=70.0),
        ReferenceBegan(),
        ReferenceFailed(message="no memory"),
        LoadBegan(candidate=label),
        LoadEnded(candidate=label, seconds=1.5),
        CheckBegan(candidate=label),
        CheckEnded(candidate=label, agreement=LOSSY),
        CellBegan(candidate=label, number=1, of=2, workload=first),
        CellBegan(candidate=label, number=2, of=2, workload=second),
        LaunchEnded(outcome=outcome),
        LaunchGivenUp(candidate=label, seconds=9.0, cells=0, of=2),
        LaunchGivenUp(candidate=label, seconds=9.0, cells=1, of=2),
        CandidateOut(candidate=label, number=2, why="slower on every cell"),
        RaceEnded(why="one left"),
    ) == [
        "round 2 of at most 3  openvino:fp32  starting  about 70 s left",
        "round 2 of at most 3  openvino:fp32  computing the reference's answers  about 70 s left",
        "no reference, outputs stay unchecked: no memory",
        "round 2 of at most 3  openvino:fp32  loading  about 70 s left",
        "round 2 of at most 3  openvino:fp32  loaded in 1.50 s  about 70 s left",
        "round 2 of at most 3  openvino:fp32  checking its output  about 70 s left",
        "round 2 of at most 3  openvino:fp32  output lossy (KL 0.012)  about 70 s left",
        f"round 2 of at most 3  openvino:fp32  cell 1/2 {first.label}  about 70 s left",
        launched(outcome),
        "openvino:fp32 was given up after 9.00 s, for the budget's sake: nothing was timed yet",
        "openvino:fp32 was given up after 9.00 s, for the budget's sake: 1 of 2 cells are kept",
        "openvino:fp32 is out after round 2: slower on every cell",
    ]


def test_the_probe_is_announced_and_told_in_a_line() -> None:
    reached = "it reads 40.0 GB/s; multiplies 200 GFLOP/s in float32, 800 in bfloat16, 1,600 in int8; took 13.5 s"
    assert said(ProbeBegan(expected_s=15.0), ProbeEnded(probe=probed(1))) == [
        "probing the machine, once, about 15 s (--no-probe leaves it out)",
        reached,
        "",
    ]
    disturbed = probed(1, disturbed=("int8",))
    mend = "other programs used the CPU meanwhile: autobackend host --probe takes it anew"
    assert said(ProbeEnded(probe=disturbed)) == [f"{reached}; {mend}", ""]


def test_a_machine_that_cannot_be_probed_is_said_to_be() -> None:
    assert said(ProbeFailed(message="no interpreter here can probe Ascend 910B")) == [
        "no probe of the machine: no interpreter here can probe Ascend 910B",
        "",
    ]


def test_the_plan_says_what_is_made_first() -> None:
    made = Preparations(
        checkpoint=LONG, conversions=(("openvino:int8-pa", LONG),), free_bytes=9 << 30, disk=Path("/disk")
    )
    line, blank = said(PreparationsKnown(preparations=made))
    assert line == (
        "prepares    once, about 4:10 min and 4.0 GiB of the 9.0 GiB free on /disk: random weights (2:05 min, 2.0 GiB),"
        " openvino:int8-pa (2:05 min, 2.0 GiB)"
    )
    assert blank == ""
    nothing = Preparations(checkpoint=None, conversions=(), free_bytes=9 << 30, disk=Path("/disk"))
    assert said(PreparationsKnown(preparations=nothing)) == [""]


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
        agreements={"transformers:sdpa": RIGHT, "ctranslate2:int8": LOSSY},
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


def test_a_check_is_told_from_a_measurement() -> None:
    _, host, key = model_and_host(MODEL)
    assert launched(check("transformers:sdpa", key, host, agreement=LOSSY)) == (
        "transformers:sdpa, round 1: checked, not timed again: loaded in 600 ms, output lossy (KL 0.012)"
    )


def test_what_was_checked_alone_is_said_and_what_was_not_is_unchecked() -> None:
    _, host, key = model_and_host(MODEL)
    checked = check("transformers:sdpa", key, host)
    before = calibration(0.0, 1.0)
    tally = replace(
        before.tally,
        outcomes=(*before.tally.outcomes, checked),
        fresh=frozenset({checked.run_id}),
        agreements={"transformers:sdpa": RIGHT},
    )
    after = replace(before, tally=tally)
    assert sentences(after)[-1] == (
        "The times of 1 candidate were known: only the output was checked (--again times everything anew)."
    )
    assert [line.split()[-1] for line in table(after)] == ["output", "unchecked", "right"]
    assert not any("only the output" in line for line in sentences(before))


def test_names_are_listed_as_one_says_them() -> None:
    assert [listing(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]

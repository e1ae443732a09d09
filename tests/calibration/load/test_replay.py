"""What of a trace is sent: its first minutes, what a model can answer, and which measured part is the nearest."""

from dataclasses import replace
from pathlib import Path

import pytest

from calibration.errors import UsageError
from calibration.load.load import Load
from calibration.load.replay import Replay
from calibration.load.trace import Arrival, Trace
from tests.calibration.points import trace_of, write_trace


def replay(folder: Path, trace: Trace, seconds: float | None = None, *, name: str = "requests") -> Replay:
    return Replay.read(write_trace(folder / f"{name}.jsonl", trace), seconds)


def test_a_short_trace_is_sent_whole_and_nothing_is_said(tmp_path: Path) -> None:
    read = replay(tmp_path, trace_of(20))
    assert read.trace == read.whole == trace_of(20)
    assert read.load == trace_of(20).load
    assert read.load.title == "trace:requests 20 requests in 9.5 s"
    assert read.sentences() == ()


def test_a_trace_is_known_by_what_is_in_it_and_not_by_its_file(tmp_path: Path) -> None:
    one, other = (replay(tmp_path, trace_of(20), name=name) for name in ("monday", "copy"))
    assert one.load == other.load
    assert hash(one.load) == hash(other.load)
    assert (one.load.title, other.load.title) == (
        "trace:monday 20 requests in 9.5 s",
        "trace:copy 20 requests in 9.5 s",
    )
    assert replay(tmp_path, trace_of(21)).load != one.load


def test_of_a_long_trace_the_first_ten_minutes_are_sent_and_that_is_said(tmp_path: Path) -> None:
    read = replay(tmp_path, trace_of(1000, every_s=3.6))
    assert len(read.trace.arrivals) == 167
    assert read.load.title == "trace:requests 167 requests in 9.96 min"
    told = f"of {read.file} the first 10 min are replayed, 167 of 1,000 requests in 59.9 min"
    assert read.sentences() == (f"{told} (another part: --trace-seconds N)",)


def test_as_many_seconds_are_sent_as_were_asked_for(tmp_path: Path) -> None:
    long = trace_of(1000, every_s=3.6)
    assert replay(tmp_path, long, 36.0).sentences() == (
        f"of {tmp_path / 'requests.jsonl'} the first 36 s are replayed, 11 of 1,000 requests in 59.9 min",
    )
    whole = replay(tmp_path, long, 7200.0)
    assert (len(whole.trace.arrivals), whole.sentences()) == (1000, ())


@pytest.mark.parametrize(
    ("seconds", "sentence", "mend"),
    [
        (0.0, "a part of a trace needs more than 0 s; found 0", ""),
        (float("nan"), "a part of a trace needs more than 0 s; found nan", ""),
        (
            0.1,
            "the first 0.1 s of the trace requests have fewer than two requests at different times",
            "take a longer part: --trace-seconds N",
        ),
    ],
)
def test_a_part_without_requests_is_refused(seconds: float, sentence: str, mend: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        replay(tmp_path, trace_of(20), seconds)
    assert (refusal.value.message, refusal.value.mend) == (sentence, mend)


def long_ones(count: int, *, of: int = 100) -> Trace:
    """Some requests of 2,000 tokens, the first among them."""
    usual = trace_of(of)
    longer = tuple(
        replace(came, prompt_tokens=1990, output_tokens=10) if i < count else came
        for i, came in enumerate(usual.arrivals)
    )
    return replace(usual, arrivals=longer)


def test_what_the_model_cannot_answer_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    read = replay(tmp_path, long_ones(5))
    assert read.within(0).trace == read.within(2000).trace == read.trace
    assert read.within(2000).sentences() == ()
    fitting = read.within(1999)
    assert [len(fitting.trace.arrivals), fitting.trace.arrivals[0].at_s, fitting.load.context_tokens] == [95, 0.0, 123]
    assert fitting.load.trace != read.load.trace, "what is sent is another trace"
    assert fitting.sentences() == (
        f"5 requests are left out of {read.file}: longer than the 1,999 positions of the model",
    )
    assert fitting.within(1999) == fitting
    one = replay(tmp_path, long_ones(1)).within(1999)
    assert one.sentences()[0].startswith("1 request is left out of ")


def test_a_trace_that_is_too_long_for_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        replay(tmp_path, long_ones(6)).within(1999)
    assert refusal.value.message == (
        f"6 of 100 requests of the trace {tmp_path / 'requests.jsonl'} are longer than the 1,999 positions of the"
        " model: up to 2,000 tokens with the answer"
    )
    assert refusal.value.mend == "take a model with a longer context, or a trace of shorter requests"


def test_rows_without_prompt_or_answer_are_told(tmp_path: Path) -> None:
    file = write_trace(tmp_path / "requests.jsonl", trace_of(20))
    with file.open("a") as opened:
        opened.write('{"arrival_s": 101, "prompt_tokens": 0, "output_tokens": 5}\n')
    assert Replay.read(file).sentences() == (f"1 request is left out of {file}: without prompt or answer",)


def test_the_longest_beginning_that_was_measured_is_found_by_what_is_in_it(tmp_path: Path) -> None:
    long = trace_of(1000, every_s=3.6)
    asked = replay(tmp_path, long)
    parts = {seconds: replay(tmp_path, long, seconds, name="moved").load for seconds in (36.0, 360.0, 1200.0)}
    others = [Load.parse("pp16:tg4:c8"), trace_of(11).load]
    assert asked.longest_measured([]) is None
    assert asked.longest_measured(others) is None
    assert asked.longest_measured([*others, parts[36.0], parts[360.0]]) == parts[360.0]
    assert asked.longest_measured(parts.values()) == parts[1200.0], "a longer part tells more"


def test_beginnings_are_those_of_what_the_model_can_answer(tmp_path: Path) -> None:
    long = long_ones(30, of=1000)
    asked = replay(tmp_path, long).within(1999)
    assert asked.too_long == 30
    shorter = Trace(arrivals=tuple(replace(a, at_s=round(a.at_s - 15.0, 5)) for a in long.arrivals[30:80]))
    assert asked.longest_measured([shorter.load]) == shorter.load
    assert asked.longest_measured([Trace(arrivals=long.arrivals[:80]).load]) is None


def test_facts_are_the_means_and_the_longest_request(tmp_path: Path) -> None:
    trace = Trace(
        arrivals=(
            Arrival(at_s=0.0, prompt_tokens=1000, output_tokens=1),
            Arrival(at_s=1.0, prompt_tokens=10, output_tokens=500),
        )
    )
    load = replay(tmp_path, trace).load
    assert (load.prompt_mean, load.output_mean, load.context_tokens, load.least_s) == (505.0, 250.5, 1001, 1.0)
    told_by_label = Load.parse(load.label)
    assert told_by_label == load
    assert (told_by_label.title, told_by_label.context_tokens, told_by_label.least_s) == (load.label, 1500, 0.0)

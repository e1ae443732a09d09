"""Traces in the public formats, and what is no trace."""

import json
from pathlib import Path

import pytest

from calibration.codec import from_plain, to_plain
from calibration.errors import UsageError
from calibration.load.load import Load, TraceFacts
from calibration.load.trace import MEND, Arrival, Trace, read_trace

SAME = (
    Arrival(at_s=0.0, prompt_tokens=655, output_tokens=52),
    Arrival(at_s=0.105, prompt_tokens=1800, output_tokens=26),
    Arrival(at_s=3.0, prompt_tokens=12, output_tokens=1),
)
FORMATS = {
    "ours.jsonl": (
        '{"arrival_s": 7.0, "prompt_tokens": 655, "output_tokens": 52}\n\n'
        '{"arrival_s": 10, "prompt_tokens": 12, "output_tokens": 1, "note": "kept aside"}\n'
        '{"arrival_s": 7.105, "prompt_tokens": 1800, "output_tokens": 26}\n'
    ),
    "mooncake.jsonl": (
        '{"timestamp": 27482, "input_length": 655, "output_length": 52, "hash_ids": [46, 47]}\n'
        '{"timestamp": 27587, "input_length": 1800, "output_length": 26, "hash_ids": [46, 2353]}\n'
        '{"timestamp": 30482, "input_length": 12, "output_length": 1, "hash_ids": []}\n'
    ),
    "burstgpt.csv": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,655,52,707,Conversation log\n"
        "5.105,ChatGPT,1800,26,1826,API log\n"
        "6,GPT-4,900,0,900,API log\n"
        "8,GPT-4,12,1,13,API log\n"
    ),
    "azure.csv": (
        "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,655,52\n"
        "2023-11-16 18:15:46.7855900,1800,26\n"
        "2023-11-16 18:15:49.6805900,12,1\n"
    ),
    "azure2024.csv": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,655,52\n"
        "2024-05-10 00:00:00.114930+00:00,1800,26\n"
        "2024-05-10 00:00:03.009930+00:00,12,1\n"
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_public_format_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMATS[name], encoding="utf-8")
    trace = read_trace(tmp_path / name)
    assert trace == Trace(arrivals=SAME, left_out=1 if name == "burstgpt.csv" else 0)
    assert trace.load.label == f"pp12-1800:tg1-52:r0.666667:t{trace.digest}"


def test_a_digest_names_what_is_in_a_trace() -> None:
    trace = Trace(arrivals=SAME)
    assert trace.digest == Trace(arrivals=SAME, left_out=3).digest
    assert trace.digest != Trace(arrivals=SAME[:2]).digest
    assert Load.parse(trace.load.label) == trace.load


def test_requests_of_one_token_came_too(tmp_path: Path) -> None:
    rows = [{"arrival_s": at, "prompt_tokens": 1, "output_tokens": 1} for at in (0, 4)]
    (tmp_path / "trace").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trace = read_trace(tmp_path / "trace")
    assert trace.load.label == f"pp1:tg1:r0.25:t{trace.digest}"
    assert from_plain(Trace, to_plain(trace)) == trace


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the trace {file} needs two requests at different times; found 0 requests"),
        (
            '{"arrival_s": 1, "prompt_tokens": 6, "output_tokens": 5}\n',
            "the trace {file} needs two requests at different times; found 1 requests",
        ),
        (
            '{"timestamp": 1, "output_length": 5}\n',
            "{file}, line 1: needs an arrival with prompt and output tokens; found timestamp, output_length",
        ),
        ('{"timestamp": 1, "input_length": "x", "output_length": 5}\n', "{file}, line 1: invalid literal for int()"),
        ('{"timestamp": 1,\n', "{file}, line 1: Expecting property name enclosed in double quotes"),
        ("a,b\n1,2\n", "{file}, line 2: needs an arrival with prompt and output tokens; found a, b"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(text: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(UsageError) as refusal:
        read_trace(file)
    assert refusal.value.message.startswith(sentence.format(file=file))
    assert refusal.value.mend == MEND


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the trace .*/none cannot be read: .*No such file"):
        read_trace(tmp_path / "none")


def test_a_load_of_a_trace_tells_what_it_is_beside_its_label(tmp_path: Path) -> None:
    (tmp_path / "azure.csv").write_text(FORMATS["azure.csv"], encoding="utf-8")
    load = read_trace(tmp_path / "azure.csv").load
    assert load.facts == TraceFacts(
        name="azure", requests=3, seconds=3.0, prompt_mean=822.333, output_mean=26.333, longest_tokens=1826
    )
    assert load.title == "trace:azure 3 requests in 3 s"
    assert Trace(arrivals=SAME).load.title == f"trace:{load.trace} 3 requests in 3 s", "it was not read from a file"


def test_the_longest_of_several_beginnings() -> None:
    whole = Trace(arrivals=SAME)
    two, one = Trace(arrivals=SAME[:2]).digest, Trace(arrivals=SAME[:1]).digest
    assert whole.longest_beginning([one, two]) == two
    assert whole.longest_beginning([whole.digest, two]) == whole.digest
    assert whole.longest_beginning([Trace(arrivals=SAME[1:]).digest]) == ""

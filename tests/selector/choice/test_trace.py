"""A trace as a load: what select answers for its file, by what was measured of it, and what it says."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from calibration.cache.cache import Cache
from calibration.errors import NotCalibrated, UsageError
from calibration.load.trace import Trace
from calibration.measurement import Served
from selector import context
from selector.cli import main
from selector.demand.demand import Demand
from selector.emit.serve_words import serve_words
from selector.explanation import explain
from selector.planning.plan import plan
from selector.planning.room import room_for
from selector.screens.calibration.steps import header
from selector.screens.select import why
from selector.screens.serve import chosen as serve_screen
from selector.selection import choose
from tests.calibration.points import replayed, trace_of, write_trace
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, answer, demanded, with_versions
from tests.selector.launches import rounds, served

TRACE = trace_of(200)
TITLE = "trace:requests 200 requests in 99.5 s"
LONG = trace_of(1000, every_s=3.6)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "requests.jsonl", TRACE)


def under(candidate: str, trace: Trace = TRACE, *, tpot_s: float = 0.02, **changes: Any) -> Served:
    """A launch that was sent the trace."""
    launch = served(candidate, KEY, HOST, {"pp64:tg32:c8": 80.0}, **changes)
    return replace(launch, points=(replayed(trace, tpot_s=tpot_s),))


def test_the_best_under_the_trace_answers_wherever_its_file_is(file: Path, cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    cache.add(under(CT2, tpot_s=0.2), under(SDPA))
    moved = file.rename(file.with_name("monday.jsonl"))
    chosen = choose(MODEL, trace=moved, cache=cache, host=HOST)
    assert (chosen.candidate.label, chosen.source) == (SDPA, "measured")
    assert [one.candidate.label for one in chosen.served] == [SDPA, CT2]
    assert (chosen.warnings, chosen.notes) == ((), ())
    assert choose(MODEL, workload=TRACE.load.label, cache=cache, host=HOST).candidate.label == SDPA
    lines = why(chosen, now=chosen.measured_at)
    assert lines[0] == (
        f"{SDPA}, measured here as served just now (2 launches, 2 candidates), for trace:monday 200 requests in 99.5 s"
    )


def test_json_tells_name_and_hash(file: Path, cache: Cache) -> None:
    told = json.loads(json.dumps(answer(cache, under(SDPA), trace=file).to_json()))
    assert told["workload"] == TRACE.load.label
    assert told["trace"] == {"hash": TRACE.digest, "name": "requests", "requests": 200, "seconds": 99.5}
    assert told["served"][0]["load"] == TRACE.load.label
    by_label = choose(MODEL, workload=TRACE.load.label, cache=cache, host=HOST).to_json()
    assert by_label["trace"] == {"hash": TRACE.digest, "name": None, "requests": None, "seconds": None}
    assert choose(MODEL, cache=cache, host=HOST).to_json()["trace"] is None


def test_a_trace_that_was_not_measured_is_answered_by_the_nearest_batch_and_says_so(file: Path, cache: Cache) -> None:
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    chosen = choose(MODEL, trace=file, cache=cache, host=HOST)
    again = f"autobackend calibrate {MODEL} --trace {file}"
    assert (chosen.candidate.label, chosen.served) == (CT2, ())
    assert chosen.warnings[0] == (
        f"{TITLE} was not measured as served here; this is the answer for the static batch pp116:tg6:b1."
        f" Measure it: {again}"
    )
    with pytest.raises(NotCalibrated) as error:
        choose(MODEL, trace=file, cache=cache, host=HOST, strict=True)
    assert error.value.message == f"{MODEL} was never measured on this host under {TITLE}"
    assert error.value.mend == f"measure it: {again}"


def test_another_part_of_the_trace_answers_and_says_so(tmp_path: Path, cache: Cache) -> None:
    file = write_trace(tmp_path / "long.jsonl", LONG)
    parts = [replace(LONG, arrivals=LONG.arrivals[:count], name="old") for count in (20, 50)]
    cache.add(under(EAGER, parts[0]), under(CT2, parts[1], tpot_s=0.2), under(SDPA, parts[1]))
    chosen = choose(MODEL, trace=file, cache=cache, host=HOST)
    assert [one.candidate.label for one in chosen.served] == [SDPA, CT2], "the longest part that was measured"
    [warning] = chosen.warnings
    assert warning == (
        "trace:long 167 requests in 9.96 min was not measured as served here; this is the answer for another part of"
        f" it, trace:old 50 requests in 2.94 min. Measure it: autobackend calibrate {MODEL} --trace {file}"
    )
    assert chosen.notes == (
        f"of {file} the first 10 min are replayed, 167 of 1,000 requests in 59.9 min (another part: --trace-seconds N)",
    )
    exact = answer(cache, under(CT2, replace(LONG, arrivals=LONG.arrivals[:167])), trace=file)
    assert ([one.candidate.label for one in exact.served], exact.warnings) == ([CT2], ())


def test_a_part_that_was_asked_for_is_another_load(tmp_path: Path, cache: Cache) -> None:
    file = write_trace(tmp_path / "long.jsonl", LONG)
    part = replace(LONG, arrivals=LONG.arrivals[:11])
    chosen = answer(cache, under(SDPA, part), trace=file, trace_s=36.0)
    assert (chosen.use.label, chosen.warnings) == (part.load.label, ())


def test_a_trace_of_other_versions_answers_as_stale(file: Path, cache: Cache) -> None:
    chosen = answer(cache, under(SDPA, environment=with_versions(transformers="5.0.0")), trace=file)
    assert (chosen.source, chosen.candidate.label) == ("stale", SDPA)
    assert chosen.warnings[0].endswith(f"Measure again: autobackend calibrate {MODEL} --trace {file}")


def too_long(count: int, tokens: int = 9000) -> Trace:
    longer = [replace(came, prompt_tokens=tokens) for came in TRACE.arrivals[:count]]
    return replace(TRACE, arrivals=(*longer, *TRACE.arrivals[count:]))


def test_what_the_model_cannot_answer_is_left_out_everywhere(tmp_path: Path, cache: Cache) -> None:
    file = write_trace(tmp_path / "requests.jsonl", too_long(10))
    sentence = f"10 requests are left out of {file}: longer than the 8,192 positions of the model"
    chosen = choose(MODEL, trace=file, cache=cache, host=HOST)
    assert chosen.use.label.startswith("pp26-215:tg4-8:r")
    assert sentence in chosen.notes
    planned = plan(MODEL, trace=file, host=HOST)
    assert planned.demand.loads == (chosen.use,)
    assert SDPA in {candidate.label for candidate in planned.candidates}
    assert explain(MODEL, trace=file, host=HOST).workload == chosen.use
    rows = header(planned)
    place = next(i for i, row in enumerate(rows) if row.startswith("as served"))
    assert rows[place : place + 2] == [
        "as served   trace:requests 190 requests in 94.5 s",
        f"            {sentence}",
    ]


def test_a_trace_for_a_larger_model_is_refused(tmp_path: Path, cache: Cache) -> None:
    file = write_trace(tmp_path / "requests.jsonl", too_long(11))
    for ask in (lambda: choose(MODEL, trace=file, cache=cache, host=HOST), lambda: plan(MODEL, trace=file, host=HOST)):
        with pytest.raises(UsageError, match=r"11 of 200 requests of the trace .* are longer than the 8,192 positions"):
            ask()


def test_a_server_has_room_for_the_longest_request_and_eight_of_them(tmp_path: Path, cache: Cache) -> None:
    file = write_trace(tmp_path / "requests.jsonl", too_long(1, 8100))
    chosen = choose(MODEL, trace=file, cache=cache, host=HOST, backend=SDPA)
    room = room_for(chosen)
    assert (room.slots, room.context_tokens) == (8, 8192)
    assert "for trace:requests 200 requests in 99.5 s" in serve_screen(chosen, room, threads=2)[1]


def test_elsewhere_a_server_is_told_the_room_and_not_the_file(file: Path, cache: Cache) -> None:
    chosen = answer(cache, under(SDPA, threads=1), trace=file, objective="goodput", ttft_s=0.5)
    words = serve_words(chosen, model="/model", port="80")
    assert "--trace" not in words
    assert shlex.join(words) == (
        f"autobackend serve /model --backends {SDPA} --served-model-name smollm2-135m --context 223 --slots 8"
        " --threads 1 --port 80"
    )


@pytest.mark.parametrize("seconds", [None, 36.0])
def test_its_words_ask_for_the_same_trace(seconds: float | None, tmp_path: Path) -> None:
    file = write_trace(tmp_path / "a trace.jsonl", LONG)
    asked = Demand.of(workload="serve", trace=str(file), trace_s=seconds)
    words = asked.options()
    assert words == [
        *("--workload", "pp256-768:tg64-192:c8", "--trace", str(file)),
        *(["--trace-seconds", "36"] if seconds else []),
    ]
    heard = demanded(*words)
    assert heard == asked
    assert heard.replays == asked.replays


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"trace": "none.jsonl"}, "the trace none.jsonl cannot be read: No such file or directory"),
        ({"trace_s": 60.0}, "the first 60 s are of a trace; found none"),
    ],
)
def test_what_is_no_trace_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        Demand.of(**asked)
    assert error.value.message.startswith(sentence)
    assert error.value.mend


def test_targets_of_tokens_need_an_answer_of_two(tmp_path: Path) -> None:
    short = Trace(arrivals=tuple(replace(came, output_tokens=1) for came in TRACE.arrivals), name="short")
    with pytest.raises(UsageError, match="found trace:short 200 requests in 99.5 s"):
        Demand.of(trace=write_trace(tmp_path / "short.jsonl", short), tpot_s=0.1)
    assert Demand.of(trace=write_trace(tmp_path / "requests.jsonl", TRACE), tpot_s=0.1).loads


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="autobackend")


def test_the_command_answers_for_a_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    where = tmp_path / "cache.db"
    with Cache.open(where) as cache:
        cache.add(under(SDPA), under(CT2, tpot_s=0.2))
    found = run("select", MODEL, "--trace", file, "--cache", where)
    assert (found.exit_code, found.stdout, found.stderr) == (0, f"{SDPA}\n", "")
    part = run("select", MODEL, "--trace", file, "--trace-seconds", 30, "--cache", where)
    assert (part.exit_code, part.stdout) == (0, f"{SDPA}\n")
    assert part.stderr.startswith(
        "warning: trace:requests 61 requests in 30 s was not measured as served here; this is"
    )
    assert f"note: of {file} the first 30 s are replayed, 61 of 200 requests in 99.5 s\n" in part.stderr
    several = run("select", MODEL, "--trace", file, "--workload", "serve", "--cache", where)
    assert several.exit_code == 2
    assert f"error: an answer is for one workload; found pp256-768:tg64-192:c8, {TITLE}\n" in several.stderr
    missing = run("calibrate", MODEL, "--trace", tmp_path / "none", "--cache", where)
    assert (missing.exit_code, missing.stderr.startswith("error: the trace ")) == (2, True)


def test_a_budget_that_does_not_hold_a_trace_is_refused_before_anything_is_measured(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context.DEFAULT, "host", lambda: HOST)
    for words in (["calibrate", MODEL, "--budget"], ["serve", MODEL, "--port", 0, "--calibrate"]):
        short = run(*words, 60, "--trace", file, "--cache", tmp_path / "cache.db")
        assert short.exit_code == 2
        assert short.stderr.splitlines()[-2:] == [
            f"error: a budget of 60 s does not hold {TITLE}",
            "give it more seconds, or replay a part of the trace: --trace-seconds N",
        ]

"""The study of served loads: what chooses does not judge, and its figures on launches that can be checked by hand."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.served.cells import Cell, always, beyond_noise, cells_of, differences, names_of, over, over_best
from benchmarks.served.form import exactness, sampling_error, told_levels
from benchmarks.served.measure import Stage, Turn, measure, share_s, turns_of
from benchmarks.served.recorded import BATCH, UNMEASURED, Recorded, of_cache, of_results
from benchmarks.served.report import report
from benchmarks.served.study import main
from benchmarks.served.tables import Section, markdown, plain
from benchmarks.served.task import Kind, Task, hopeless, kind_of, levels, read_task
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Silent
from calibration.load.load import Load
from calibration.load.sample import Asked
from calibration.supervision.deadline import Deadline
from selector.publish.publish import publish
from selector.selection import choose
from tests.calibration.points import point
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, SPEC
from tests.selector.launches import LOSSY, RIGHT, rounds, served, unserved

LENGTHS = "pp64:tg32"
C8, C4, C1 = levels(LENGTHS, (1, 4, 8))
INT8 = "ctranslate2:int8"
EQUAL, ALLOWED = "equal precision", "lossy ones allowed"
TPS = {
    CT2: ((80.0, 90.0, 100.0), (80.0, 110.0, 100.0)),
    SDPA: ((50.0, 100.0, 160.0), (50.0, 100.0, 160.0)),
    EAGER: ((20.0, 20.0, 20.0),),
    INT8: ((100.0, 120.0, 125.0), (100.0, 120.0, 125.0)),
}
"""Candidate: tokens a second at one, four and eight streams, in the first round and in the second."""


def plant(cache: Cache, only: int = 0) -> None:
    """The launches of TPS, or those of one round."""
    for label, by_round in TPS.items():
        for number, reached in enumerate(by_round, start=1):
            if only in (0, number):
                tps = dict(zip((C1.label, C4.label, C8.label), reached, strict=True))
                agreement = LOSSY if label == INT8 else RIGHT
                cache.add(served(label, KEY, HOST, tps, round_=number, ttft_s=0.02, agreement=agreement))


@pytest.fixture
def recorded(cache: Cache) -> Recorded:
    """What HOST recorded, its static batches included: there CT2 is five times as fast as SDPA."""
    cache.add(*rounds(CT2, KEY, HOST, (0.2,)), *rounds(SDPA, KEY, HOST, (1.0,)))
    plant(cache)
    [one] = of_cache(cache, host=HOST)
    return one


@pytest.fixture
def cells(recorded: Recorded) -> dict[tuple[str, int], Cell]:
    return {(cell.precision, cell.load.streams): cell for cell in cells_of(recorded)}


def close(*values: float) -> object:
    """A point's tokens a second are those of its window: exact to a thousandth."""
    return pytest.approx(values, rel=2e-3)


def test_a_cell_is_a_load_in_two_halves(recorded: Recorded, cells: dict[tuple[str, int], Cell]) -> None:
    assert (recorded.name, recorded.loads) == ("smollm2-135m", (C1, C4, C8))
    assert set(cells) == {(name, streams) for name in (EQUAL, ALLOWED) for streams in (1, 4, 8)}
    cell = cells[EQUAL, 4]
    assert {label: set(times) for label, times in cell.times.items()} == {CT2: {1, 2}, SDPA: {1, 2}, EAGER: {1}}
    assert [1 / cell.times[CT2][1], 1 / cell.times[CT2][2], 1 / cell.times[EAGER][1]] == close(90.0, 110.0, 20.0)
    assert set(cells[ALLOWED, 4].times) == {CT2, SDPA, EAGER, INT8}


def test_the_pick_of_a_half_is_what_select_answers_by_it_alone(
    cells: dict[tuple[str, int], Cell], tmp_path: Path
) -> None:
    for half in (1, 2):
        with Cache.open(tmp_path / f"{half}.db") as alone:
            plant(alone, only=half)
            for (name, streams), cell in cells.items():
                answer = choose(
                    MODEL,
                    workload=Load.parse(f"{LENGTHS}:c{streams}"),
                    objective="throughput",
                    allow_lossy=name == ALLOWED,
                    cache=alone,
                    host=HOST,
                )
                assert answer.candidate.label == cell.picks[half]
    assert cells[EQUAL, 4].picks == {1: SDPA, 2: CT2}
    assert cells[ALLOWED, 8].picks == {1: SDPA, 2: SDPA}


def test_a_pick_is_judged_by_the_other_half(cells: dict[tuple[str, int], Cell]) -> None:
    """At four streams noise makes SDPA the best of the first round and CT2 that of the second."""
    cell = cells[EQUAL, 4]
    # The first half judges CT2, which took 1/90 where SDPA took 1/100; the second one SDPA, 1/100 where CT2 took 1/110.
    assert over_best(cell) == close(100 / 90, 110 / 100)
    assert over(cell, cell.picks, cell.picks) == (1.0, 1.0)
    # CT2 differs from itself by 110 / 90, which is more than either.
    assert beyond_noise(cell) == (1.0, 1.0)
    assert over_best(cells[EQUAL, 8]) == (1.0, 1.0)
    assert differences([cell, cells[ALLOWED, 4]]) == close(110 / 90, 1.0, 1.0)


def test_beyond_noise_is_what_the_candidates_own_difference_does_not_explain() -> None:
    cell = Cell(
        host="h",
        model="m",
        load=C8,
        precision=EQUAL,
        times={"a:x": {1: 1.0, 2: 1.1}, "b:x": {1: 2.2, 2: 2.2}},
        picks={1: "b:x", 2: "a:x"},
    )
    assert beyond_noise(cell) == close(1.0, 2.2 / 1.1 / 1.1)


def test_always_the_same_is_told_over_the_pick(cells: dict[tuple[str, int], Cell]) -> None:
    cell = cells[EQUAL, 8]
    assert over(cell, always(cell, CT2), cell.picks) == close(1.6, 1.6)
    assert always(cell, "transformers") == {1: SDPA, 2: SDPA}
    # Out after its first launch, it is judged by that.
    assert over(cell, always(cell, EAGER), cell.picks) == close(8.0)
    assert over(cell, always(cell, "openvino"), cell.picks) == ()
    # CT2 itself is the pick of the second half at four streams; SDPA that of the first.
    cell = cells[EQUAL, 4]
    assert over(cell, always(cell, CT2), cell.picks) == close(1.0, 100 / 110)
    assert names_of(cells.values()) == ["ctranslate2", CT2, INT8, "transformers", EAGER, SDPA]


def test_what_select_answers_where_nothing_was_served(recorded: Recorded, cells: dict[tuple[str, int], Cell]) -> None:
    cell = cells[EQUAL, 8]
    assert cell.without == {BATCH: CT2, UNMEASURED: CT2}
    assert recorded.without[C1, False][BATCH] == CT2


def test_a_level_between_is_told_by_those_around_it(recorded: Recorded, cells: dict[tuple[str, int], Cell]) -> None:
    told = [one for one in told_levels(recorded) if one.candidate == SDPA]
    # A stream of SDPA waits 20 ms for a token alone and 50 ms among eight: among four 20 + 30 * 3 / 7.
    expected = 4 / (0.020 + 0.030 * 3 / 7)
    assert [one.ratios["output_tps"] for one in told] == close(expected / 100, expected / 100)
    assert {one.load for one in told_levels(recorded)} == {C4}
    # By one and eight streams CT2 reaches 97 tokens a second among four, SDPA 122.
    assert cells[EQUAL, 4].told == {1: SDPA, 2: SDPA}
    assert cells[EQUAL, 8].told == {}


def test_a_level_with_void_points_is_told_by_none(cache: Cache) -> None:
    tps = {C1.label: 50.0, C4.label: 100.0, C8.label: 160.0}
    cache.add(
        served(SDPA, KEY, HOST, tps, ttft_s=0.02, void="busy"), served(CT2, KEY, HOST, {C1.label: 50.0, C8.label: 90.0})
    )
    [one] = of_cache(cache, host=HOST)
    assert told_levels(one) == []
    assert (exactness(one, C1).points, exactness(one, C1).void) == (2, 1)


def test_the_sampling_error_is_that_of_a_ratio_of_sums() -> None:
    def answer(number: int, tokens: int, e2e_s: float) -> Asked:
        return Asked(
            number=number, sent_s=0.0, chunks_s=(0.1, e2e_s), prompt_tokens=8, output_tokens=tokens, counted=True
        )

    taken = point(C1, tps=50.0)
    uneven = replace(taken, asked=(answer(0, 10, 1.0), answer(1, 10, 3.0)))
    # 20 tokens in 4 s: the answers are 5 above and 5 below 5 tokens a second.
    assert sampling_error(uneven) == pytest.approx(1.95996 * (2 * 50) ** 0.5 / 20)
    even = replace(taken, asked=(answer(0, 10, 2.0), answer(1, 20, 4.0)))
    assert sampling_error(even) == 0.0
    assert sampling_error(replace(taken, asked=(answer(0, 10, 1.0),))) is None


def test_the_error_is_as_large_as_what_repeated_samples_show() -> None:
    """Answers of 8 to 24 tokens, each taking a tenth of a second and 20 ms a token, give or take a fifth."""
    draw = random.Random(7)

    def sample() -> tuple[float, float]:
        asked = []
        for number in range(24):
            tokens = draw.randint(8, 24)
            took = (0.1 + 0.02 * tokens) * draw.uniform(0.8, 1.2)
            asked.append(Asked(number=number, sent_s=0.0, chunks_s=(0.1, took), prompt_tokens=8, output_tokens=tokens))
        taken = replace(point(C1, tps=50.0), asked=tuple(asked))
        error = sampling_error(taken)
        assert error is not None
        return sum(a.output_tokens for a in asked) / sum(a.e2e_s for a in asked), error

    samples = [sample() for _ in range(400)]
    mean = sum(rate for rate, _ in samples) / len(samples)
    inside = sum(abs(rate / mean - 1.0) <= error for rate, error in samples) / len(samples)
    assert 0.90 < inside < 0.99


def test_one_of_each_kind_is_served_unless_it_is_hopeless() -> None:
    paged = Kind(backend="a", batching="continuous", lossy=False)
    serial = Kind(backend="a", batching="none", lossy=False)
    rounded = Kind(backend="a", batching="continuous", lossy=True)
    slow = Kind(backend="b", batching="static", lossy=False)
    kinds = {"a:p1": paged, "a:p2": paged, "a:s": serial, "a:int8": rounded, "b:x": slow, "b:y": slow}
    seconds = {
        "a:p1": (2.0, 4.0),
        "a:p2": (3.0, 2.0),
        "a:s": (1.0, 8.0),
        "a:int8": (0.5, 1.0),
        "b:x": (4.0, 7.0),
        "b:y": (5.0, 9.0),
    }
    # a:p2 does better than a:p1 at both together. b:x takes 4 times as long as the best alone, 3.5 times in the batch.
    assert hopeless(seconds, kinds) == pytest.approx({"a:p1": 2.0, "b:x": 3.5, "b:y": 4.5})
    # The lossy one is no rival of the others: b:x stays where only that is so much faster.
    assert hopeless({"a:int8": (0.5,), "b:x": (4.0,)}, kinds) == {}
    assert hopeless({"a:int8": (4.0,), "b:x": (1.0,)}, kinds) == {"a:int8": 4.0}


def test_a_task_has_the_candidates_that_are_worth_a_server(cache: Cache) -> None:
    task = read_task(MODEL, (C8, C1), cache, host=HOST)
    served_labels = [spec.label for spec in task.plan.launch_specs]
    kinds = [kind_of(label) for label in served_labels]
    assert len(set(kinds)) == len(kinds) >= 3
    assert task.left_out
    assert {kind.lossy for kind in kinds} == {True, False}
    assert task.plan.demand.loads == (C8, C1)
    named = read_task(MODEL, (C8, C1), cache, backends=["transformers"], host=HOST)
    assert {spec.label for spec in named.plan.launch_specs} >= {SDPA, EAGER}
    assert named.left_out == {}


def test_a_budget_is_dealt_by_what_turns_take(cache: Cache) -> None:
    small = read_task(MODEL, (C8, C1), cache, host=HOST)
    large = read_task("shape:qwen2.5-0.5b", (C8, C1), cache, host=HOST)
    turns = turns_of([small, large])
    assert [(turn.task is small, turn.stage) for turn in turns] == [
        (is_small, stage) for stage in (Stage.FIRST, Stage.SECOND, Stage.REST) for is_small in (True, False)
    ]
    first = Turn(task=small, stage=Stage.FIRST)
    assert share_s([first, Turn(task=small, stage=Stage.SECOND)], 90.0) == pytest.approx(60.0)
    assert share_s([Turn(task=small, stage=Stage.REST)], 90.0) == 90.0, "what is left over"
    assert share_s([first], 90.0) == 90.0
    assert share_s(turns, None) is None
    both = share_s([first, Turn(task=large, stage=Stage.FIRST)], 100.0)
    assert both is not None
    assert 30.0 < both < 40.0, "a quarter of the parameters, about half of the other's seconds"


@pytest.fixture
def tasks(tmp_path: Path, cache: Cache) -> list[Task]:
    """A model that seems to have weights; nothing reads them, since all that is due was served."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((SPEC.folder / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes(bytes(8))
    return [read_task(str(folder), (C8, C4, C1), cache, backends=[SDPA, EAGER], host=HOST)]


def measured(tasks: list[Task], cache: Cache, tmp_path: Path, *, left_s: float) -> tuple[list[str], list[str]]:
    """What is said, and what is missing."""
    said = list[str]()
    store = ArtifactStore(tmp_path / "artifacts")
    deadline = Deadline(left_s, lambda: 0.0)
    missing = measure(tasks, cache, store, Silent(), deadline, requests=4, say=said.append)
    return said, missing


def test_what_was_served_is_not_served_again(tasks: list[Task], cache: Cache, tmp_path: Path) -> None:
    name = tasks[0].plan.spec.name
    tps = {C8.label: 160.0, C4.label: 100.0, C1.label: 50.0}
    for label in (SDPA, EAGER):
        for number in (1, 2):
            cache.add(served(label, tasks[0].plan.identity, HOST, tps, round_=number, ttft_s=0.02, model=name))
    said, missing = measured(tasks, cache, tmp_path, left_s=600.0)
    assert [line.split(" in ")[0] for line in said] == [
        f"{name}, first round: 0 launches",
        f"{name}, second round: 0 launches",
    ], "nobody is left"
    assert missing == []


def test_what_a_budget_left_out_is_named(tasks: list[Task], cache: Cache, tmp_path: Path) -> None:
    name = tasks[0].plan.spec.name
    assert measured(tasks, cache, tmp_path, left_s=0.0) == (
        [],
        [
            f"{name}: never served within the budget: {SDPA}, {EAGER}",
            f"{name}: the budget ended before the second round did",
        ],
    )


@pytest.fixture
def sections(cache: Cache, recorded: Recorded) -> dict[str, Section]:
    cache.add(unserved("transformers:sdpa-fp32", KEY, HOST, message="killed by SIGSEGV\nand more"))
    [one] = of_cache(cache, host=HOST)
    made = report([one], {MODEL: {"vllm:eager": 3.44}})
    return {section.title: section for section in made}


def test_the_report_tells_one_stream_beside_eight(sections: dict[str, Section]) -> None:
    section = sections["The best for one stream is not the best for many"]
    assert section.rows == (
        ("smollm2-135m", EQUAL, CT2, SDPA, "1.600", "1.600"),
        ("smollm2-135m", ALLOWED, INT8, SDPA, "1.280", "2.000"),
    )
    assert section.sentences[0].startswith(
        "In 4 of 4 choices (each model, each class, each half) the pick for c1 is not the pick for c8. Under c8 it"
        " takes 1.431 (1.600) times as long as the pick for that, more than 3.0 % longer in 4 of 4;"
    )


def test_the_report_tells_what_always_the_same_costs(sections: dict[str, Section]) -> None:
    rows = {row[0]: row[1:] for row in sections[f"Always the same engine over the pick, {EQUAL}"].rows}
    assert rows[f"`{CT2}`"][0] == "1.000 (1.000)"
    assert rows[f"`{CT2}`"][2] == "1.600 (1.600)"
    assert rows[f"`{EAGER}`"][2:] == ("8.000 (8.000)", rows[f"`{EAGER}`"][3], "3 of 3")
    lossy = {row[0]: row for row in sections[f"Always the same engine over the pick, {ALLOWED}"].rows}
    assert f"`{INT8}`" in lossy
    assert f"`{INT8}`" not in rows


def test_the_report_tells_the_picks_and_the_gaps(sections: dict[str, Section]) -> None:
    picks = sections[f"The pick, {EQUAL}"]
    assert [row[:4] for row in picks.rows] == [
        ("smollm2-135m", C1.label, f"{CT2}, 80.0 tok/s", CT2),
        ("smollm2-135m", C4.label, f"{SDPA}, 100 tok/s", f"{SDPA} / {CT2}"),
        ("smollm2-135m", C8.label, f"{SDPA}, 160 tok/s", SDPA),
    ]
    assert picks.rows[2][6] == f"{CT2} (1.600)"
    assert sections["Left out"].points == ("smollm2-135m: `vllm:eager` 3.4",)
    assert sections["Failed"].points == (
        "smollm2-135m: `transformers:sdpa-fp32` crashed (pp64:tg32:c8): killed by SIGSEGV",
    )
    told = sections["Told by the levels around"]
    assert [row[:2] for row in told.rows] == [("`ctranslate2`", "4"), ("`transformers`", "3"), ("all", "7")]


def test_the_report_is_whole_as_markdown_and_as_text(sections: dict[str, Section]) -> None:
    page = markdown(sections.values())
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert [line for line in page.splitlines() if line.startswith("#")] == [f"### {title}" for title in sections]
    assert not re.search(r"\n\n\n|nan|inf\b", page)
    text = plain(sections.values(), across=100)
    assert "LEFT OUT\n" in text


@pytest.fixture
def published(cache: Cache, recorded: Recorded, tmp_path: Path) -> Path:
    publish(cache, tmp_path / "results", host=HOST)
    return tmp_path / "results"


def test_what_a_host_published_is_read_like_its_cache(recorded: Recorded, published: Path) -> None:
    [one] = of_results(published)
    assert cells_of(replace(one, without=recorded.without)) == cells_of(recorded)
    assert one.without[C8, False] == {BATCH: CT2}


def test_the_command_reports_results(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "--cache", str(tmp_path / "empty.db"), "--load", LENGTHS, "--markdown"]
    assert main([*words, "--results", str(published)]) == 0
    page = capsys.readouterr().out
    assert "### The best for one stream is not the best for many" in page
    assert "### Left out" not in page, "of another host it is not known"
    assert main(words) == 2
    assert "no model that was served under two of pp64:tg32:c8, pp64:tg32:c4, pp64:tg32:c1" in capsys.readouterr().err


def test_streams_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--cache", str(tmp_path / "empty.db"), "--streams", "1,many"]) == 2
    assert "needs numbers of streams, as in 1,4,8; found '1,many'" in capsys.readouterr().err


def test_what_select_answers_without_loads_is_served_beside_the_best_of_each_kind(cache: Cache) -> None:
    """EAGER is measured to be far faster than predicted, and so what `select` answers for a batch."""
    before = read_task(MODEL, (C8, C1), cache, host=HOST)
    assert EAGER in before.left_out
    cache.add(*rounds(EAGER, KEY, HOST, (0.01,)))
    after = read_task(MODEL, (C8, C1), cache, host=HOST)
    assert EAGER in {spec.label for spec in after.plan.launch_specs}
    assert EAGER not in after.left_out

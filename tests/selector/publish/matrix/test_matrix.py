"""Models x backends: what each square says."""

import math
from dataclasses import replace

import pytest

from calibration.measurement import FailureKind, OutputVerdict
from calibration.registry import all_backends
from calibration.workload import STANDARD, Workload, grid
from selector.evidence.identity import environment_of
from selector.publish.hosts.host_file import KeptVerdict
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Matrix, Row, Square, State, matrix
from selector.publish.pages.picks import podium
from selector.publish.pages.tables import anchors, compared
from selector.publish.pages.wording import precision
from tests.approximate import approx
from tests.selector.launches import DAY, LOSSY, check, failure, rounds
from tests.selector.publish.published import CELL, CHAT, CT2, EAGER, HOST, KEY, MODEL, SDPA, published


def the_row(results: Matrix) -> Row:
    (row,) = results.rows
    return row


def square(results: Matrix, label: str) -> Square:
    return the_row(results).squares[results.labels.index(label)]


def test_every_state() -> None:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)),
        failure(CT2, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check", message="diverges"),
        verdicts=(
            KeptVerdict(label="turbomind:default", reasons=("needs an NVIDIA GPU; this host has none",)),
            KeptVerdict(label=CT2),
            KeptVerdict(label=SDPA),
            KeptVerdict(label=EAGER),
            KeptVerdict(label="transformers:compile", left_out="compiling takes minutes"),
        ),
    )
    other = replace(
        host, host="b" * 12, outcomes=tuple(rounds(EAGER, replace(KEY, host="b" * 12), HOST, (2.0,))), verdicts={}
    )
    results = matrix([host, other], order=["turbomind:default", CT2, SDPA, EAGER, "transformers:compile"])
    assert results.labels == ("turbomind:default", CT2, SDPA, EAGER)  # compile is left out everywhere
    states = [[(s.state, s.reasons) for s in row.squares] for row in results.rows]
    assert states == [
        [
            (State.REFUSED, ("needs an NVIDIA GPU; this host has none",)),
            (State.FAILED, ("wrong output in check: diverges",)),
            (State.MEASURED, ()),
            (State.UNTESTED, ()),
        ],
        [(State.UNTESTED, ()), (State.UNTESTED, ()), (State.UNTESTED, ()), (State.MEASURED, ())],
    ]
    assert [row.identity.host for row in results.of(results.hosts[1])] == ["b" * 12]


def test_models_of_one_shape_share_their_times_and_no_verdict() -> None:
    twin = replace(KEY, config="e" * 16)
    results = matrix(
        [
            published(
                *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
                *rounds(CT2, KEY, HOST, (2.0,)),
                check(SDPA, twin, HOST, agreement=LOSSY, model="twin"),
                failure(CT2, twin, HOST, model="twin", kind=FailureKind.WRONG_OUTPUT, stage="check", message="differs"),
            )
        ],
        order=[CT2, SDPA],
    )
    (ct2, sdpa), (twins_ct2, twins_sdpa) = (row.squares for row in results.rows)
    assert [row.model for row in results.rows] == [MODEL, "twin"]
    assert (sdpa.state, twins_sdpa.state) == (State.MEASURED, State.MEASURED)
    assert sdpa.figures[View.PREFILL, CELL].median == twins_sdpa.figures[View.PREFILL, CELL].median
    verdicts = [s.measurement.agreement.verdict for s in (sdpa, ct2, twins_sdpa) if s.measurement]
    assert verdicts == [OutputVerdict.RIGHT, OutputVerdict.RIGHT, OutputVerdict.LOSSY]
    assert (twins_ct2.state, twins_ct2.reasons) == (State.FAILED, ("wrong output in check: differs",))
    assert (twins_ct2.launches, twins_sdpa.lossy) == (1, True)


def test_a_few_layers_are_a_row_of_their_own() -> None:
    cut = replace(KEY, cut="3/30")
    results = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(EAGER, cut, HOST, (0.1, 0.1)))])
    whole, shallow = results.rows
    assert (whole.model, precision(whole)) == (MODEL, "bfloat16")
    assert (shallow.model, precision(shallow)) == (MODEL, "bfloat16, on 3 of 30 layers")
    states = [{s.label: (s.state, s.launches) for s in row.squares} for row in results.rows]
    assert states == [
        {SDPA: (State.MEASURED, 2), EAGER: (State.UNTESTED, 0)},
        {SDPA: (State.UNTESTED, 0), EAGER: (State.MEASURED, 2)},
    ]
    best, none = podium(whole, View.END_TO_END, CHAT), podium(shallow, View.END_TO_END, CHAT)
    assert (best.best.label, none.best.label) == (SDPA, EAGER)  # type: ignore[union-attr]
    assert [(c.precision, c.rows) for c in compared(results)] == [
        ("bfloat16", (whole,)),
        ("bfloat16, on 3 of 30 layers", (shallow,)),
    ]
    assert len(set(anchors(results).values())) == 2


def test_launches_from_before_configs_were_kept_join_their_models_later_ones() -> None:
    unknown = replace(KEY, config="")
    before = rounds(SDPA, unknown, HOST, (1.0, 1.0), at=DAY - 86400)
    row = the_row(matrix([published(*before)]))
    assert (row.identity, row.squares[0].measurement.agreement.verdict) == (unknown, OutputVerdict.RIGHT)  # type: ignore[union-attr]
    row = the_row(matrix([published(*before, check(EAGER, KEY, HOST))]))
    assert (row.identity, row.squares[0].launches) == (KEY, 2)
    assert row.squares[0].measurement.agreement.verdict is OutputVerdict.UNCHECKED  # type: ignore[union-attr]


def test_figures_of_each_view() -> None:
    results = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(EAGER, KEY, HOST, (2.0, 2.0)))])
    fast, slow = square(results, SDPA).figures, square(results, EAGER).figures
    # Prefill of 512 tokens takes 1.034 s, a step 22 ms, times 1 and 2.
    assert fast[View.PREFILL, CELL].median == pytest.approx(512 / 1.034)
    assert fast[View.DECODE, CELL].median == pytest.approx(1 / 0.022)
    assert fast[View.END_TO_END, CHAT].median == pytest.approx(1.034 + 127 * 0.022)
    figure = slow[View.END_TO_END, CHAT]
    # Two launches that agree leave what the prior spread allows: exp(1.96 * 0.12 / sqrt(2)); its six degrees
    # of freedom stand beside the two of both candidates.
    half = figure.median * math.sinh(1.95996 * 0.12 * math.sqrt(6 / 8) / math.sqrt(2))
    assert (figure.half, figure.share, figure.best, figure.tied) == (
        approx(half), approx(0.5), False, False,
    )  # fmt: skip
    assert (figure.estimated, figure.extrapolated) == (True, False)
    assert not slow[View.PREFILL, CELL].estimated
    assert [fast[key].best for key in fast] == [True] * len(fast)


def test_beyond_the_cells_is_extrapolated() -> None:
    results = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))])
    summarize = square(results, SDPA).figures[View.END_TO_END, "pp1024:tg64:b1"]
    assert (summarize.estimated, summarize.extrapolated) == (True, True)


def test_ties_are_marked() -> None:
    results = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(EAGER, KEY, HOST, (1.01, 1.01)))])
    marks = {
        (view, label): (
            square(results, label).figures[view, CELL].best,
            square(results, label).figures[view, CELL].tied,
        )
        for view in View
        for label in (SDPA, EAGER)
    }
    assert marks == {(view, label): (label == SDPA, label == EAGER) for view in View for label in (SDPA, EAGER)}


def test_stale_lossy_and_barred_never_win() -> None:
    old = {**environment_of(all_backends()["transformers"], HOST), "torch": "2.12.0"}
    results = matrix(
        [
            published(
                *rounds(SDPA, KEY, HOST, (2.0, 2.0)),
                *rounds(EAGER, KEY, HOST, (1.0, 1.0), environment=old),
                *rounds("ctranslate2:int8", KEY, HOST, (0.2, 0.2), agreement=LOSSY),
                *rounds("transformers:compile", KEY, HOST, (0.5, 0.5)),
                verdicts=(KeptVerdict(label="transformers:compile", left_out="compiling takes minutes"),),
            )
        ]
    )
    best = {s.label: s.figures[View.END_TO_END, CHAT].best for s in the_row(results).squares}
    assert best == {SDPA: True, EAGER: False, "ctranslate2:int8": False, "transformers:compile": False}
    assert square(results, EAGER).differences == ("torch 2.12.0 -> 2.13.0",)
    assert square(results, "ctranslate2:int8").lossy
    assert [s.label for s in the_row(results).squares if s.may_win] == [SDPA]
    assert square(results, "ctranslate2:int8").figures[View.END_TO_END, CHAT].share == 1.0


def test_the_same_shapes_in_another_dtype_are_another_row() -> None:
    wide = replace(KEY, dtype="float32")
    results = matrix([published(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, wide, HOST, (1.0,)))])
    assert [row.identity.dtype for row in results.rows] == ["bfloat16", "float32"]


def test_nothing_measured_is_an_empty_matrix() -> None:
    empty = matrix([published()])
    assert empty == Matrix(hosts=(published(),), labels=(), rows=())
    assert (empty.workloads, empty.backends) == ((), ())


def test_a_hosts_workloads_are_the_standard_ones_and_the_cells_that_it_timed() -> None:
    there = "b" * 12
    cells = (Workload(prompt_tokens=32, output_tokens=8), Workload(prompt_tokens=960, output_tokens=8))
    here, elsewhere = matrix(
        [
            published(*rounds(SDPA, KEY, HOST, (1.0,))),
            published(*rounds(SDPA, replace(KEY, host=there), HOST, (1.0,), cells=cells), host=there),
        ]
    ).hosts
    both = matrix([here, elsewhere])
    assert both.workloads_of(here) == (*STANDARD.values(), *grid())
    assert both.workloads_of(elsewhere) == (*STANDARD.values(), *cells)
    assert both.workloads == (*STANDARD.values(), cells[0], grid()[0], grid()[1], cells[1], *grid()[2:])

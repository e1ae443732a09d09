"""Models x backends: what each square says."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.errors import CacheError
from calibration.measurement import Failure, FailureKind, Outcome
from calibration.registry import all_backends
from calibration.workload import STANDARD, grid
from selector.explanation import explain
from selector.identity import environment_of
from selector.publish.figures import View
from selector.publish.matrix import Judged, Matrix, Published, Row, Square, State, matrix
from selector.publish.publish import public_names, publish, read
from tests.selector.launches import DAY, LOSSY, cpu_host, failure, model_and_host, rounds

MODEL = "shape:smollm2-135m"
SPEC, HOST, KEY = model_and_host(MODEL)
CT2, SDPA, EAGER = "ctranslate2:float32", "transformers:sdpa", "transformers:eager"
CHAT = "pp512:tg128:b1"
CELL = "pp512:tg32:b1"


def published(*outcomes: Outcome, verdicts: tuple[Judged, ...] = (), host: str = HOST.identifier) -> Published:
    return Published(
        host=host,
        device=HOST.device.name,
        machine="AMD EPYC 7763, 2 cores, 24.0 GiB",
        published_at=DAY,
        environments={name: environment_of(b, HOST) for name, b in all_backends().items()},
        verdicts={MODEL: verdicts},
        outcomes=outcomes,
    )


def the_row(found: Matrix) -> Row:
    (row,) = found.rows
    return row


def square(found: Matrix, label: str) -> Square:
    return the_row(found).squares[found.labels.index(label)]


def test_every_state() -> None:
    host = published(
        *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0)),
        failure(CT2, KEY, HOST, kind=FailureKind.WRONG_OUTPUT, stage="check", message="diverges"),
        verdicts=(
            Judged(label="turbomind:default", reasons=("needs an NVIDIA GPU; this host has none",)),
            Judged(label=CT2),
            Judged(label=SDPA),
            Judged(label=EAGER),
            Judged(label="transformers:compile", left_out="compiling takes minutes"),
        ),
    )
    other = replace(
        host, host="b" * 12, outcomes=tuple(rounds(EAGER, replace(KEY, host="b" * 12), HOST, (2.0,))), verdicts={}
    )
    found = matrix([host, other], order=["turbomind:default", CT2, SDPA, EAGER, "transformers:compile"])
    assert found.labels == ("turbomind:default", CT2, SDPA, EAGER)  # compile is left out everywhere
    states = [[(s.state, s.reasons) for s in row.squares] for row in found.rows]
    assert states == [
        [
            (State.REFUSED, ("needs an NVIDIA GPU; this host has none",)),
            (State.FAILED, ("wrong output in check: diverges",)),
            (State.MEASURED, ()),
            (State.UNTESTED, ()),
        ],
        [(State.UNTESTED, ()), (State.UNTESTED, ()), (State.UNTESTED, ()), (State.MEASURED, ())],
    ]
    assert [row.identity.host for row in found.of(found.hosts[1])] == ["b" * 12]


def test_figures_of_each_view() -> None:
    found = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(EAGER, KEY, HOST, (2.0, 2.0)))])
    fast, slow = square(found, SDPA).figures, square(found, EAGER).figures
    # Prefill of 512 tokens takes 1.034 s, a step 22 ms, times 1 and 2.
    assert fast[View.PREFILL, CELL].median == pytest.approx(512 / 1.034)
    assert fast[View.DECODE, CELL].median == pytest.approx(1 / 0.022)
    assert fast[View.END_TO_END, CHAT].median == pytest.approx(1.034 + 127 * 0.022)
    figure = slow[View.END_TO_END, CHAT]
    # Two launches that agree leave what the prior spread allows: a factor of exp(1.96 * 0.12 / sqrt(2)).
    half = figure.median * math.sinh(1.95996 * 0.12 / math.sqrt(2))
    assert (figure.half, figure.share, figure.best, figure.tied) == (
        pytest.approx(half), pytest.approx(0.5), False, False,
    )  # fmt: skip
    assert (figure.estimated, figure.extrapolated) == (True, False)
    assert not slow[View.PREFILL, CELL].estimated
    assert [fast[key].best for key in fast] == [True] * len(fast)


def test_beyond_the_cells_is_extrapolated() -> None:
    found = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)))])
    summarize = square(found, SDPA).figures[View.END_TO_END, "pp1024:tg64:b1"]
    assert (summarize.estimated, summarize.extrapolated) == (True, True)


def test_ties_are_marked() -> None:
    found = matrix([published(*rounds(SDPA, KEY, HOST, (1.0, 1.0)), *rounds(EAGER, KEY, HOST, (1.01, 1.01)))])
    marks = {
        (view, label): (square(found, label).figures[view, CELL].best, square(found, label).figures[view, CELL].tied)
        for view in View
        for label in (SDPA, EAGER)
    }
    assert marks == {(view, label): (label == SDPA, label == EAGER) for view in View for label in (SDPA, EAGER)}


def test_stale_lossy_and_barred_never_win() -> None:
    old = {**environment_of(all_backends()["transformers"], HOST), "torch": "2.12.0"}
    found = matrix(
        [
            published(
                *rounds(SDPA, KEY, HOST, (2.0, 2.0)),
                *rounds(EAGER, KEY, HOST, (1.0, 1.0), environment=old),
                *rounds("ctranslate2:int8", KEY, HOST, (0.2, 0.2), agreement=LOSSY),
                *rounds("transformers:compile", KEY, HOST, (0.5, 0.5)),
                verdicts=(Judged(label="transformers:compile", left_out="compiling takes minutes"),),
            )
        ]
    )
    best = {s.label: s.figures[View.END_TO_END, CHAT].best for s in the_row(found).squares}
    assert best == {SDPA: True, EAGER: False, "ctranslate2:int8": False, "transformers:compile": False}
    assert square(found, EAGER).differences == ("torch 2.12.0 -> 2.13.0",)
    assert square(found, "ctranslate2:int8").lossy
    assert square(found, "ctranslate2:int8").figures[View.END_TO_END, CHAT].share == 1.0


def test_the_same_shapes_in_another_dtype_are_another_row() -> None:
    wide = replace(KEY, dtype="float32")
    found = matrix([published(*rounds(SDPA, KEY, HOST, (1.0,)), *rounds(SDPA, wide, HOST, (1.0,)))])
    assert [row.identity.dtype for row in found.rows] == ["bfloat16", "float32"]


def test_nothing_measured_is_an_empty_matrix() -> None:
    assert matrix([published()]) == Matrix(hosts=(published(),), labels=(), rows=(), workloads=())


def test_publish_writes_the_raw_launches_and_the_pages(tmp_path: Path) -> None:
    out = tmp_path / "results"
    launches = rounds(SDPA, KEY, HOST, (1.0, 1.0))
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*launches, *rounds(EAGER, replace(KEY, host="b" * 12), HOST, (1.0,)))
        written = publish(cache, out, host=HOST, now=DAY)
    assert written == [out / "hosts" / "aaaaaaaaaaaa.json", out / "matrix.md", out / "matrix.html"]
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["aaaaaaaaaaaa.json", "matrix.html", "matrix.md"]
    found = read(written[0])
    assert found.batching["llamacpp:f16"] == "continuous"
    assert found.batching[SDPA] == "static"
    assert "transformers:compile" in found.on_request
    assert replace(found, batching={}, on_request=frozenset()) == Published(
        host=HOST.identifier,
        device=HOST.device.name,
        machine="AMD EPYC 7763, 2 cores, 24.0 GiB",
        published_at=DAY,
        environments={name: environment_of(b, HOST) for name, b in all_backends().items()},
        verdicts={
            MODEL: tuple(
                Judged(label=v.candidate.label, reasons=tuple(r.text for r in v.reasons), left_out=v.left_out)
                for v in explain(MODEL, host=HOST).verdicts
            )
        },
        outcomes=tuple(launches),
    )


def test_publish_merges_the_files_of_other_hosts(tmp_path: Path) -> None:
    there = cpu_host("bbbbbbbbbbbb")
    for host in (HOST, there):
        with Cache.open(tmp_path / f"{host.identifier}.db") as cache:
            cache.add(*rounds(SDPA, replace(KEY, host=host.identifier), host, (1.0,)))
            publish(cache, tmp_path / "results", host=host, now=DAY)
    page = (tmp_path / "results" / "matrix.md").read_text()
    assert ("host `aaaaaaaaaaaa`" in page, "host `bbbbbbbbbbbb`" in page) == (True, True)


def test_publish_with_only_other_hosts_still_writes_the_pages(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
        publish(cache, tmp_path, host=HOST)
    with Cache.open(tmp_path / "empty.db") as empty:
        assert publish(empty, tmp_path, host=cpu_host("cccccccccccc")) == [
            tmp_path / "matrix.md",
            tmp_path / "matrix.html",
        ]


def test_a_model_that_is_gone_keeps_its_measurements(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,), model="/no/such/folder"))
        raw, _, _ = publish(cache, tmp_path, host=HOST)
    found = read(raw)
    assert (found.verdicts, len(found.outcomes)) == ({}, 1)


def test_nothing_to_publish_is_an_error(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache, pytest.raises(CacheError) as error:
        publish(cache, tmp_path / "results", host=HOST)
    assert str(error.value) == (
        f"nothing was measured on this host; the cache is {tmp_path / 'cache.db'}\n"
        "measure something first: autobackend calibrate shape:smollm2-135m"
    )


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"format": "autobackend-results", "version": 1}', '{"format": 1, "version": 2}'],
)
def test_a_file_that_is_no_hosts_results_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(CacheError, match=r"x\.json is"):
        read(path)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("shape:gpt2", "shape:gpt2"),
        ("gpt2", "gpt2"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("/data/models/llama-q4_0.gguf", "llama-q4_0.gguf"),
        ("models/llama-q4_0.gguf", "llama-q4_0.gguf"),
        ("./Qwen2.5-7B-GPTQ/", "Qwen2.5-7B-GPTQ"),
        ("/hub/models--org--model/snapshots/0123abc", "org/model"),
    ],
)
def test_a_published_model_is_named_without_the_folders_of_its_machine(model: str, name: str) -> None:
    assert public_names([model]) == {model: name}


def test_two_folders_of_one_name_are_told_apart() -> None:
    assert public_names(["/a/model", "/b/model"]) == {"/a/model": "model", "/b/model": "b/model"}


def test_published_failures_name_no_folder_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "llama-gptq"
    said = f"cannot read {folder}/model.bin in /usr/lib/python3.11/engine.py"
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(
            *rounds(SDPA, KEY, HOST, (1.0,), model=str(folder)),
            failure(CT2, KEY, HOST, message=said, model=str(folder)),
        )
        written = publish(cache, tmp_path / "results", host=HOST, now=DAY)
    for path in written:
        assert str(tmp_path) not in path.read_text()
    failed = next(o for o in read(written[0]).outcomes if isinstance(o, Failure))
    assert (failed.model, failed.message) == (
        "llama-gptq",
        "cannot read .../llama-gptq/model.bin in PREFIX/lib/python3.11/engine.py",
    )


def judged(**left_out: str) -> tuple[Judged, ...]:
    """Verdicts on a few variants; legal and not left out where nothing is said."""
    labels = (CT2, "ctranslate2:int8", SDPA, EAGER, "transformers:compile")
    return tuple(Judged(label=n, left_out=left_out.get(n.replace(":", "_"), "")) for n in labels)


def test_the_command_names_backends_only_where_not_every_candidate_was_launched() -> None:
    verdicts = judged(ctranslate2_int8="lossy (--allow-lossy)", transformers_compile="compiling takes minutes")
    everything = [*rounds(CT2, KEY, HOST, (1.0,)), *rounds(SDPA, KEY, HOST, (1.0,)), *rounds(EAGER, KEY, HOST, (1.0,))]
    lossy = rounds("ctranslate2:int8", KEY, HOST, (1.0,), agreement=LOSSY)
    compiled = rounds("transformers:compile", KEY, HOST, (1.0,))

    def again(*outcomes: Outcome) -> tuple[tuple[str, ...], bool]:
        (found,) = the_row(matrix([published(*outcomes, verdicts=verdicts)])).again
        assert found.cells == grid()
        return found.backends, found.lossy

    assert again(*everything) == ((), False)
    assert again(*everything, *lossy) == ((), True)
    assert again(*everything[1:]) == (("transformers",), False)
    assert again(*everything[:2]) == (("ctranslate2", SDPA), False)
    assert again(*everything, *compiled) == (("ctranslate2", "transformers:compile", EAGER, SDPA), False)


def test_each_set_of_cells_is_asked_for_by_itself() -> None:
    cells = grid([STANDARD["summarize"]])
    found = matrix(
        [
            published(
                *rounds(SDPA, KEY, HOST, (1.0,)),
                *rounds(SDPA, KEY, HOST, (1.0,), cells=cells, calibration="c2"),
                *rounds(SDPA, KEY, HOST, (1.0,), calibration="c3"),
            )
        ]
    )
    assert [a.cells for a in the_row(found).again] == [grid(), cells]


def test_the_raw_file_is_plain_json(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.add(*rounds(SDPA, KEY, HOST, (1.0,)))
        raw, _, _ = publish(cache, tmp_path, host=HOST, now=DAY)
    told = json.loads(raw.read_text())
    assert (told["format"], told["version"], told["published_at"]) == ("autobackend-results", 1, DAY)
    assert told["records"][0]["cells"][0]["samples"][0]["ttft_s"] == pytest.approx(0.138)

"""Workloads: how they are written, what they refuse, and the cells that are measured for them."""

import pytest

from calibration.errors import UsageError
from calibration.workload import DEFAULT, STANDARD, Workload, grid


@pytest.mark.parametrize(
    ("text", "workload"),
    [
        ("pp512:tg128:b4", Workload(prompt_tokens=512, output_tokens=128, batch=4)),
        ("pp512:tg128", Workload(prompt_tokens=512, output_tokens=128, batch=1)),
        (" pp1:tg1:b1 ", Workload(prompt_tokens=1, output_tokens=1)),
        ("pp9999999:tg9999999:b99999", Workload(prompt_tokens=9999999, output_tokens=9999999, batch=99999)),
        ("chat", Workload(prompt_tokens=512, output_tokens=128)),
        ("summarize", Workload(prompt_tokens=1024, output_tokens=64)),
        ("write", Workload(prompt_tokens=64, output_tokens=512)),
        ("batch", Workload(prompt_tokens=512, output_tokens=128, batch=4)),
    ],
)
def test_a_workload_is_read_from_its_label_or_its_name(text: str, workload: Workload) -> None:
    assert Workload.parse(text) == workload


def test_a_label_is_read_as_what_it_was_made_of() -> None:
    assert [workload.label for workload in STANDARD.values()] == [
        "pp512:tg128:b1",
        "pp1024:tg64:b1",
        "pp64:tg512:b1",
        "pp512:tg128:b4",
    ]
    assert [Workload.parse(workload.label) for workload in STANDARD.values()] == list(STANDARD.values())
    assert (DEFAULT, DEFAULT.context_tokens) == (STANDARD["chat"], 640)


@pytest.mark.parametrize(
    "text", ["", "pp512", "tg128:pp512", "pp512:tg128:b", "pp512:tg128:b4:x", "pp-1:tg1", "pp12345678:tg1", "Chat"]
)
def test_what_is_no_workload_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Workload.parse(text)
    assert (refusal.value.message, refusal.value.mend) == (
        f"unknown workload {text!r}",
        (
            "write it as pp512:tg128:b1 (prompt tokens, output tokens, batch)"
            " or name one of: chat, summarize, write, batch"
        ),
    )


@pytest.mark.parametrize(
    ("prompt_tokens", "output_tokens", "batch", "sentence"),
    [
        (0, 1, 1, "a workload needs prompt tokens >= 1; found 0"),
        (1, 0, 1, "a workload needs output tokens >= 1; found 0"),
        (1, 1, 0, "a workload needs batch >= 1; found 0"),
    ],
)
def test_a_workload_has_one_token_and_one_sequence_at_least(
    prompt_tokens: int, output_tokens: int, batch: int, sentence: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        Workload(prompt_tokens=prompt_tokens, output_tokens=output_tokens, batch=batch)
    assert refusal.value.message == sentence


@pytest.mark.parametrize(
    ("workloads", "cells"),
    [
        # The cells reach the context at the end of the output, less the 32 tokens that they write themselves.
        (["pp512:tg128"], "pp128 pp608"),
        (["pp64:tg512"], "pp64 pp544"),
        (["pp64:tg512", "pp256:tg8:b3"], "pp64 pp544 pp64:b3 pp544:b3"),
        (["pp256:tg8:b2"], "pp64:b2 pp256:b2"),
        # Two lengths nearer than twice each other tell a fixed cost badly: a quarter of the shortest is added.
        (["pp100:tg132"], "pp100 pp200"),
        (["pp100:tg131"], "pp25 pp199"),
        (["pp3:tg1"], "pp1 pp3"),
        (["pp1:tg1"], "pp1"),
        (["pp128:tg32", "pp1024:tg32:b4"], "pp128 pp1024 pp128:b4 pp1024:b4"),
    ],
)
def test_the_cells_are_the_corners_around_the_workloads(workloads: list[str], cells: str) -> None:
    assert grid(map(Workload.parse, workloads)) == tuple(
        Workload(
            prompt_tokens=int(prompt.removeprefix("pp")), output_tokens=32, batch=int(batch.removeprefix("b") or 1)
        )
        for prompt, _, batch in (cell.partition(":") for cell in cells.split())
    )


def test_without_workloads_the_cells_bracket_ordinary_use() -> None:
    assert [cell.label for cell in grid()] == ["pp64:tg32:b1", "pp512:tg32:b1", "pp64:tg32:b4", "pp512:tg32:b4"]
    assert [cell.label for cell in grid(gpu=True)] == [
        "pp128:tg32:b1",
        "pp2048:tg32:b1",
        "pp128:tg32:b16",
        "pp2048:tg32:b16",
    ]


@pytest.mark.parametrize(
    ("asked", "batches"),
    [("pp512:tg128:b1", [1, 4]), ("pp512:tg128:b16", [1, 16]), ("pp512:tg128:b2 pp512:tg128:b8", [2, 8])],
)
def test_on_a_gpu_there_are_always_two_batches(asked: str, batches: list[int]) -> None:
    uses = [Workload.parse(label) for label in asked.split()]
    assert sorted({cell.batch for cell in grid(uses, gpu=True)}) == batches
    assert sorted({cell.batch for cell in grid(uses)}) == sorted({use.batch for use in uses})

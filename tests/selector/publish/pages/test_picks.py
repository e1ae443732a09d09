"""Which squares of a row are shown."""

from selector.publish.hosts.host_file import KeptVerdict
from selector.publish.matrix.figures import View
from selector.publish.matrix.matrix import Row, matrix
from selector.publish.pages.picks import best_of_backend, most_telling, podium, slowness
from tests.selector.launches import LOSSY, failure, rounds
from tests.selector.publish.published import CHAT, CT2, EAGER, HOST, KEY, SDPA, published

INT8 = "ctranslate2:int8"


def row() -> Row:
    (only,) = matrix(
        [
            published(
                *rounds(SDPA, KEY, HOST, (1.0, 1.0)),
                *rounds(EAGER, KEY, HOST, (1.5, 1.5)),
                *rounds(CT2, KEY, HOST, (2.0, 2.0)),
                *rounds(INT8, KEY, HOST, (0.5, 0.5), agreement=LOSSY),
                failure("llamacpp:f16", KEY, HOST),
                verdicts=(
                    KeptVerdict(label="llamacpp:f16"),
                    KeptVerdict(label="llamacpp:q8_0", left_out="lossy (--allow-lossy)"),
                    KeptVerdict(label="turbomind:default", reasons=("needs an NVIDIA GPU; this host has none",)),
                ),
            )
        ],
        order=["turbomind:default", "llamacpp:f16", "llamacpp:q8_0", CT2, INT8, SDPA, EAGER],
    ).rows
    return only


def labels(*squares: object) -> list[str | None]:
    return [getattr(square, "label", None) for square in squares]


def test_the_runner_up_is_of_another_backend() -> None:
    places = podium(row(), View.END_TO_END, CHAT)
    assert labels(places.best, places.runner_up, places.lossy) == [SDPA, CT2, INT8]


def test_a_backend_shows_its_fastest_variant_and_its_fastest_lossy_one() -> None:
    assert labels(*best_of_backend(row(), "ctranslate2", View.END_TO_END, CHAT)) == [CT2, INT8]
    assert labels(*best_of_backend(row(), "transformers", View.END_TO_END, CHAT)) == [SDPA]
    assert best_of_backend(row(), "llamacpp", View.END_TO_END, CHAT) == []


def test_a_failure_tells_more_than_what_nobody_asked_for() -> None:
    assert most_telling(row().of_backend("llamacpp")).label == "llamacpp:f16"


def test_figures_that_look_alike_are_alike() -> None:
    # 1.0001 times as long is shown as the same seconds; the first of the static order stands for both.
    (twins,) = matrix(
        [published(*rounds(EAGER, KEY, HOST, (1.0, 1.0)), *rounds(SDPA, KEY, HOST, (1.0001, 1.0001)))],
        order=[SDPA, EAGER],
    ).rows
    figures = [square.figures[View.DECODE, CHAT] for square in twins.squares]
    assert figures[0].median < figures[1].median
    assert len({slowness(View.DECODE, figure) for figure in figures}) == 1

"""The commands that measure again what a host measured."""

import re

import pytest

from calibration.measurement import Outcome
from calibration.workload import STANDARD, Workload, grid
from selector.publish.hosts.host_file import KeptVerdict
from selector.publish.matrix.matrix import matrix
from selector.publish.matrix.rerun import Rerun, command
from tests.selector.launches import LOSSY, rounds
from tests.selector.publish.published import CT2, EAGER, HOST, KEY, SDPA, published


def judged(**left_out: str) -> tuple[KeptVerdict, ...]:
    """Verdicts on a few variants; legal and not left out where nothing is said."""
    labels = (CT2, "ctranslate2:int8", SDPA, EAGER, "transformers:compile")
    return tuple(KeptVerdict(label=n, left_out=left_out.get(n.replace(":", "_"), "")) for n in labels)


def test_the_command_names_backends_only_where_not_every_candidate_was_launched() -> None:
    verdicts = judged(ctranslate2_int8="lossy (--allow-lossy)", transformers_compile="compiling takes minutes")
    everything = [*rounds(CT2, KEY, HOST, (1.0,)), *rounds(SDPA, KEY, HOST, (1.0,)), *rounds(EAGER, KEY, HOST, (1.0,))]
    lossy = rounds("ctranslate2:int8", KEY, HOST, (1.0,), agreement=LOSSY)
    compiled = rounds("transformers:compile", KEY, HOST, (1.0,))

    def requested_by(*outcomes: Outcome) -> tuple[tuple[str, ...], bool]:
        ((requested,),) = (row.reruns for row in matrix([published(*outcomes, verdicts=verdicts)]).rows)
        assert requested.cells == grid()
        return requested.backends, requested.lossy

    assert requested_by(*everything) == ((), False)
    assert requested_by(*everything, *lossy) == ((), True)
    assert requested_by(*everything[1:]) == (("transformers",), False)
    assert requested_by(*everything[:2]) == (("ctranslate2", SDPA), False)
    assert requested_by(*everything, *compiled) == (("ctranslate2", "transformers:compile", EAGER, SDPA), False)


def test_each_set_of_cells_is_asked_for_by_itself() -> None:
    cells = grid([STANDARD["summarize"]])
    (row,) = matrix(
        [
            published(
                *rounds(SDPA, KEY, HOST, (1.0,)),
                *rounds(SDPA, KEY, HOST, (1.0,), cells=cells, calibration="c2"),
                *rounds(SDPA, KEY, HOST, (1.0,), calibration="c3"),
            )
        ]
    ).rows
    assert [a.cells for a in row.reruns] == [grid(), cells]


@pytest.mark.parametrize(
    ("rerun", "words"),
    [
        (Rerun(cells=grid()), ""),
        (Rerun(cells=grid(gpu=True), lossy=True, devices=2), " --allow-lossy --tensor-parallel 2"),
        (
            Rerun(cells=grid([STANDARD["batch"], STANDARD["write"]]), backends=("openvino", "transformers:sdpa")),
            " --workload pp64:tg32:b1 --workload pp608:tg32:b4 --backends openvino,transformers:sdpa",
        ),
        (Rerun(cells=(Workload(prompt_tokens=9, output_tokens=3),)), " --workload pp9:tg3:b1"),
    ],
)
def test_the_command_asks_for_the_same_cells(rerun: Rerun, words: str) -> None:
    words_of_command = command("my model", rerun)
    assert words_of_command == f"autobackend calibrate 'my model'{words}"
    asked = [Workload.parse(label) for label in re.findall(r"--workload (\S+)", words_of_command)]
    assert {*rerun.cells} <= {*grid(asked, gpu="tensor" in words)} or len(rerun.cells) == 1

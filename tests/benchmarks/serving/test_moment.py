"""The end of the demo: it says why there is no answer, and leaves no server."""

import psutil
import pytest

from benchmarks.serving.moment import HEAD, ask_once, head, question
from calibration.errors import NotServed


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


@pytest.mark.slow
def test_a_server_that_ends_is_told() -> None:
    with pytest.raises(NotServed, match=r"the server ended with exit code [1-9]\d* before it was ready"):
        ask_once("shape:no-such-shape", [], seconds=60)


def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    before = children()
    with pytest.raises(NotServed, match="was not ready in time"):
        ask_once("shape:smollm2-135m", [], seconds=0.1)
    assert children() == before


def test_a_long_answer_is_cut_and_stands_in_a_line() -> None:
    answer = {"choices": [{"text": "a\n" + "b" * 100}], "usage": {"completion_tokens": 40}}
    assert head(answer, 1.25) == f'"a\\n{"b" * (HEAD - 4)} ...  (40 tokens in 1.25 s)'


def test_a_shape_may_not_end_its_answer_early() -> None:
    assert question("shape:gpt2")["ignore_eos"]
    assert "ignore_eos" not in question("./model")

"""A use is a static batch or a load; what is asked for in a text is read in one place."""

import pytest

from calibration.errors import UsageError
from calibration.load.load import Load
from calibration.load.trace import Arrival, Trace
from calibration.load.use import (
    OPEN_SLOTS,
    batch_of,
    largest_of,
    most_tokens_of,
    parse_use,
    slots_of,
    title_of,
)
from calibration.workload import Workload


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("pp512:tg128:b4", Workload(prompt_tokens=512, output_tokens=128, batch=4)),
        ("pp512:tg128", Workload(prompt_tokens=512, output_tokens=128)),
        ("chat", Workload(prompt_tokens=512, output_tokens=128)),
        ("pp512:tg128:c8", Load.parse("pp512:tg128:c8")),
        ("pp200-800:tg64-256:r0.5", Load.parse("pp200-800:tg64-256:r0.5")),
        ("serve", Load.parse("serve")),
    ],
)
def test_each_form_is_read(text: str, use: object) -> None:
    assert parse_use(text) == use


@pytest.mark.parametrize("text", ["much", "pp512", "pp512:tg128:x8", "pp200-800:tg64:b4", ""])
def test_an_unknown_text_is_told_both_forms(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_use(text)
    assert error.value.message == f"unknown workload {text!r}"
    for form in ("pp512:tg128:b1", "pp512:tg128:c8", "pp512:tg128:r0.5", "summarize", "serve-few"):
        assert form in error.value.mend


def test_a_number_that_cannot_be_is_named() -> None:
    with pytest.raises(UsageError, match="a workload needs batch >= 1; found 0"):
        parse_use("pp512:tg128:b0")
    with pytest.raises(UsageError, match="a load needs streams or a rate, more than 0"):
        parse_use("pp512:tg128:c0")


def test_the_nearest_batch_and_what_a_server_must_hold() -> None:
    spread, open_loop, batch = (parse_use(text) for text in ("pp200-801:tg64-192:c8", "pp100:tg20-40:r2", "batch"))
    assert [batch_of(use).label for use in (spread, open_loop, batch)] == [
        "pp500:tg128:b8",
        "pp100:tg30:b1",
        "pp512:tg128:b4",
    ]
    assert [largest_of(use).label for use in (spread, open_loop, batch)] == [
        "pp801:tg192:b8",
        f"pp100:tg40:b{OPEN_SLOTS}",
        "pp512:tg128:b4",
    ]
    assert [slots_of(use) for use in (spread, open_loop, batch)] == [8, OPEN_SLOTS, 4]


def test_of_a_trace_that_was_read_the_mean_and_the_longest_request_are_known() -> None:
    trace = Trace(
        arrivals=(
            Arrival(at_s=0.0, prompt_tokens=900, output_tokens=2),
            Arrival(at_s=1.0, prompt_tokens=30, output_tokens=300),
            Arrival(at_s=2.0, prompt_tokens=30, output_tokens=301),
        ),
        name="requests",
    )
    load = trace.load
    assert (batch_of(load).label, largest_of(load).label) == ("pp320:tg201:b1", f"pp900:tg2:b{OPEN_SLOTS}")
    assert most_tokens_of(load) == 301
    assert (title_of(load), title_of(parse_use("chat"))) == ("trace:requests 3 requests in 2 s", "pp512:tg128:b1")
    by_label = parse_use(load.label)
    assert by_label == load
    assert (batch_of(by_label).label, largest_of(by_label).label) == ("pp465:tg152:b1", f"pp900:tg301:b{OPEN_SLOTS}")

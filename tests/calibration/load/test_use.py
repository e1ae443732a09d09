"""A use is a static batch or a load; what is asked for in a text is read in one place."""

import pytest

from calibration.errors import UsageError
from calibration.load.load import Load
from calibration.load.use import OPEN_SLOTS, batch_of, largest_of, parse_use, slots_of
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

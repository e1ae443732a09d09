"""A rung: how many of a model's layers are launched."""

import pytest

from calibration.rung import Rung


def test_a_rung_says_what_part_of_the_model_it_is() -> None:
    cut, whole = Rung(layers=6, of=32), Rung(layers=32, of=32)
    assert (str(cut), cut.cut, cut.whole) == ("6 of 32 layers", "6/32", False)
    assert (str(whole), whole.cut, whole.whole) == ("the whole model", "", True)
    assert Rung.parse(cut.cut) == cut
    assert sorted([whole, cut]) == [cut, whole]


@pytest.mark.parametrize("text", ["", "6", "6/", "/32", "0/32", "33/32", "6/32 layers", "-1/3", "06/32", "6 /32"])
def test_what_is_no_cut_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="needs"):
        Rung.parse(text)

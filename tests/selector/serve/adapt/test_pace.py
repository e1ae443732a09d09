"""What came is looked at as far as it is new."""

from selector.serve.adapt.pace import Recent
from tests.selector.serve.adapt.making import came


def test_nothing_came_yet() -> None:
    assert Recent(10).all is None


def test_older_parts_are_forgotten_where_newer_ones_have_enough() -> None:
    recent = Recent(10)
    for prompt, requests in ((100, 6), (200, 5), (300, 4)):
        recent.add(came(requests, prompt=prompt))
    found = recent.all
    assert found is not None
    assert (found.requests, found.prompt_tokens) == (15, {100: 6, 200: 5, 300: 4}), "9 newer ones are not enough"
    recent.add(came(1, prompt=400))
    found = recent.all
    assert found is not None
    assert found.prompt_tokens == {200: 5, 300: 4, 400: 1}
    recent.add(came(50, prompt=500))
    found = recent.all
    assert found is not None
    assert found.prompt_tokens == {500: 50}


def test_after_a_switch_nothing_of_before_counts() -> None:
    recent = Recent(10)
    recent.add(came(6))
    recent.clear()
    assert recent.all is None

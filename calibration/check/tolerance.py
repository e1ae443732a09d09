"""How far from the reference an engine of some precision may be."""

import math
from dataclasses import dataclass, fields, replace

EIGHT_BITS, EIGHT_BITS_KL = 100.0, 0.1
"""An engine in 8 bits diverges 8 to 13 times as far as bfloat16 does (int8 of four engines, 3 layers). Ten times that,
and so many nats at least, are allowed where the model's rounding is known."""
TIMES = 4.0
"""How many times the reference's own rounding error an engine of the same precision may have.

`python -m benchmarks.measuring.rounding`, on 23 models of nine architectures, 3 and 12 layers deep, on a CPU with
avx512_bf16, in multiples of the model's own median: right candidates (transformers:sdpa, openvino:fp16-sdpa,
llamacpp:f16 and bf16) stand at 1.4 at most. So do their means, but for a mixture of experts: one token sent to another
expert made 12 times of a mean of 0.0002 nats, where 0.02 are allowed. Planted errors stand at 15 and more; the mildest
is a doubled rope theta of the few full layers of Gemma 3. In GraniteMoe with random weights, whose attention is nearly
even, a doubled theta makes 2 times and is not found; rows of a weight in the wrong order make 118 there."""

NEAR_TIES = 0.5
"""How far below the best the choices after a prompt may be on average, in the largest differences of a score: whether a
reference met near ties is luck, and what it shows in 16 bits may be nothing. Scores of 300 and 5,000 tokens with errors
of a hundredth to a third of a deviation, independent in reference and candidate: 0.41 at most in 1,040 draws after one
prompt, 0.27 over all."""
UNLIKE = 0.5
"""Share of the strangers' divergence that nothing excuses: a model that 16 bits do not hold is no excuse for something
else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far an engine of one precision may be from the reference; each prompt is judged alone, lest a fault drown."""

    median_kl: float
    """Median over the positions of the Kullback-Leibler divergence, nats. Rounding that sends a few tokens to another
    expert does not move it; a wrong rotation, window, bias or weight does."""
    mean_kl: float
    """The same, on average. Of a mixture of experts without the farthest quarter of the positions: llamacpp:f16 of two
    layers with 32 experts stood at 0.27 nats at one position after a prompt, at 0.0003 at most at its others."""
    strangers: float
    """Mean divergence, as a share of that from the reference's scores at other positions."""
    margin: float
    """How far below the best a chosen token may be, in standard deviations of the reference's scores. Where it is
    infinite and the engine gives scores, the scores are compared with the reference and the choices with the scores."""
    mean_margin: float
    """The same, on average over the choices after one prompt."""
    all_margin: float
    """The same, on average over all choices after all prompts."""
    own_margin: float
    """How far below the best of the engine's own scores a chosen token may be."""


TOLERANCES: dict[str, Tolerance] = {
    # float32 engines stand at 1e-12 nats (ONNX Runtime, CTranslate2, llama.cpp on 3 layers), further off where GELU is
    # looked up in a table of float16 (ggml).
    "fp32": Tolerance(
        median_kl=1e-4,
        mean_kl=1e-4,
        strangers=math.inf,
        margin=0.05,
        mean_margin=0.005,
        all_margin=0.0025,
        own_margin=0.05,
    ),
    # bfloat16 stands at 1e-4 to 3e-4 nats on 3 layers; one position of a mixture of experts at 0.06. After one prompt a
    # single near tie may fall as far off as `margin` allows, an eighth of which is the mean of eight choices.
    "16-bit": Tolerance(
        median_kl=1e-3, mean_kl=0.02, strangers=math.inf, margin=0.3, mean_margin=0.04, all_margin=0.01, own_margin=0.3
    ),
    # A quantised checkpoint is the model: nothing is lost. But engines that load it as it is multiply its weights by
    # activations in 8 bits: llama.cpp stands at 0.007 nats on 30 layers of a real model in Q4_1.
    "quantised": Tolerance(
        median_kl=0.05, mean_kl=0.1, strangers=0.15, margin=1.0, mean_margin=0.1, all_margin=math.inf, own_margin=0.6
    ),
    # int8 stands at 0.001 to 0.01 of the strangers' divergence, int4 at 0.03 to 0.15 on 3 layers and at up to
    # 0.51 on 30 (llama.cpp's Q4_0 of random weights); something else stands near 1. There ONNX Runtime's int4
    # stands at 1.5 nats and was seen to choose, after a long prompt, 2.0 deviations below the best on average.
    "8-bit": Tolerance(
        median_kl=math.inf,
        mean_kl=math.inf,
        strangers=0.15,
        margin=2.0,
        mean_margin=0.3,
        all_margin=math.inf,
        own_margin=0.6,
    ),
    "4-bit": Tolerance(
        median_kl=math.inf,
        mean_kl=math.inf,
        strangers=0.7,
        margin=math.inf,
        mean_margin=2.0,
        all_margin=math.inf,
        own_margin=0.6,
    ),
}
LOSSY = ("8-bit", "4-bit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """How far the reference in the model's 16-bit dtype is from itself in float32; the worst prompt's.

    Of a reference that has 16 bits itself: how far it is from itself in the other 16-bit dtype.
    """

    median_kl: float
    mean_kl: float
    diff: float
    """Largest difference of a score, in deviations."""
    mean_margin: float


def precision_class(
    precision: str, dtype: str, *, lossy: bool, quantised: bool = False, overflows: bool = False
) -> str:
    """The key of TOLERANCES for a variant's precision on a model of this dtype.

    Args:
        quantised: the checkpoint is quantised, and the variant loads it as it is.
        overflows: its 8 bits lose more than their rounding: a small model's scores stand at 0.03 to 0.05 of the
            strangers' divergence, as far as those of another rotation in good 8 bits.
    """
    if quantised and (not lossy or precision == "model"):
        return "quantised"
    if lossy and precision != "model":
        return "8-bit" if precision in {"int8", "int16", "fp8"} and not overflows else "4-bit"
    return "fp32" if precision == "fp32" or (precision == "model" and dtype == "float32") else "16-bit"


def tolerance(precision: str, rounding: Rounding | None, reference: str = "fp32") -> Tolerance:
    """What an engine of this precision is allowed on a model with this rounding error.

    Args:
        reference: the precision that the reference was computed in.
    """
    allowed = _beside_exact(precision, rounding)
    if reference == "fp32":
        return allowed
    return _widened(allowed, rounding) if rounding is not None else _loosest(allowed, TOLERANCES["quantised"])


def _beside_exact(precision: str, rounding: Rounding | None) -> Tolerance:
    least = TOLERANCES[precision]
    if rounding is not None and precision == "8-bit":
        return replace(least, median_kl=max(EIGHT_BITS_KL, EIGHT_BITS * rounding.median_kl))
    if precision != "16-bit" or rounding is None:
        return least
    return Tolerance(
        median_kl=max(least.median_kl, TIMES * rounding.median_kl),
        mean_kl=max(least.mean_kl, TIMES * rounding.mean_kl),
        strangers=UNLIKE,
        # Two scores that are each off by so much change places up to twice as far apart.
        margin=max(least.margin, 2 * rounding.diff),
        mean_margin=max(least.mean_margin, TIMES * rounding.mean_margin, NEAR_TIES * rounding.diff),
        all_margin=max(least.all_margin, TIMES / 2 * rounding.mean_margin, NEAR_TIES / 2 * rounding.diff),
        own_margin=max(least.own_margin, 2 * rounding.diff),
    )


def _widened(allowed: Tolerance, rounding: Rounding) -> Tolerance:
    """Beside a reference that has 16 bits: by its own errors, so that what is more exact than it is not refused.

    A divergence grows with the square of the differences, so its roots add up as lengths do: an engine that is at most
    as far from the exact scores as the reference is at most twice as far from the reference, four times as many nats.
    """
    exact = _beside_exact("16-bit", rounding)
    return Tolerance(
        median_kl=(math.sqrt(allowed.median_kl) + math.sqrt(TIMES * rounding.median_kl)) ** 2,
        mean_kl=(math.sqrt(allowed.mean_kl) + math.sqrt(TIMES * rounding.mean_kl)) ** 2,
        strangers=min(allowed.strangers, UNLIKE),
        margin=allowed.margin + 2 * rounding.diff,
        mean_margin=allowed.mean_margin + exact.mean_margin,
        all_margin=allowed.all_margin + exact.all_margin,
        own_margin=allowed.own_margin,
    )


def _loosest(one: Tolerance, other: Tolerance) -> Tolerance:
    loosest = Tolerance(**{f.name: max(getattr(one, f.name), getattr(other, f.name)) for f in fields(Tolerance)})
    return replace(loosest, strangers=min(loosest.strangers, UNLIKE))

"""TTFT and TPOT of any workload from the measured cells: a small non-negative model of prefill and of a decode step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from calibration.measurement import Measurement
from calibration.workload import Workload

Coefficients = tuple[float, float, float]

CONTEXT_SLACK = 1.25
"""So many times the longest measured context still count as measured. A step's cost is linear in its context, and the
context's share of a step is small: a quarter more changes the sum by little."""

CORNERS = 6
"""Of the hull around a workload; see `corners`."""

_LEAST_S = 1e-12
"""No engine is this quick: the clock was at fault, and the relative error of such a time would outweigh all others."""

_SINGULAR = 1e-13
"""A Gram matrix of unit diagonal with a smaller determinant is not solved: its columns are copies of each other."""


class Point(NamedTuple):
    """A measured cell: seconds."""

    workload: Workload
    ttft_s: float
    tpot_s: float | None
    """None where only one token was generated."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of any workload on one candidate, as one launch saw it."""

    prefill: Coefficients
    """(a, c1, c2), all >= 0: TTFT = a + c1 p b + c2 p^2 b for b prompts of p tokens."""
    step: Coefficients | None
    """(d0, d1, d2), all >= 0: a decode step = d0 + d1 b + d2 context b; None where no decoding was measured."""

    def ttft_s(self, workload: Workload) -> float:
        a, c1, c2 = self.prefill
        prompt, batch = workload.prompt_tokens, workload.batch
        return a + batch * prompt * (c1 + c2 * prompt)

    def tpot_s(self, workload: Workload) -> float:
        """The mean step over the output: steps 1 to n - 1 see contexts p + 1 to p + n - 1, in the mean p + n / 2.

        Raises:
            ValueError: no cell measured decoding.
        """
        if self.step is None:
            raise ValueError("needs a cell with a time per output token; found none")
        d0, d1, d2 = self.step
        return d0 + workload.batch * (d1 + d2 * (workload.prompt_tokens + 0.5 * workload.output_tokens))

    def e2e_s(self, workload: Workload) -> float:
        """TTFT + (n - 1) * TPOT for n output tokens.

        Raises:
            ValueError: more than one token is asked for and no cell measured decoding.
        """
        if workload.output_tokens == 1:
            return self.ttft_s(workload)
        return self.ttft_s(workload) + (workload.output_tokens - 1) * self.tpot_s(workload)


def points(measurement: Measurement) -> list[Point]:
    """The cells of one launch, each by the medians of its clean samples."""
    return [Point(cell.workload, cell.ttft_s, cell.tpot_s) for cell in measurement.cells]


def fit(points: Sequence[Point]) -> Cost:
    """The non-negative least-squares fit of relative errors.

    Exact: with three coefficients all eight supports are tried in closed form. Where the cells cannot tell two
    coefficients apart (one cell, one prompt length, one batch), the simpler explanation is kept: prefill proportional
    to its tokens, a step of fixed cost.

    Raises:
        ValueError: no point has a positive TTFT.
    """
    prefill_rows = []
    step_rows = []
    for workload, ttft, tpot in points:
        prompt, batch = workload.prompt_tokens, workload.batch
        if ttft > _LEAST_S:
            scale = 1.0 / ttft
            work = scale * prompt * batch
            prefill_rows.append((scale, work, work * prompt))
        if tpot is not None and tpot > _LEAST_S:
            scale = 1.0 / tpot
            each = scale * batch
            step_rows.append((scale, each, each * (prompt + 0.5 * workload.output_tokens)))
    if not prefill_rows:
        raise ValueError("needs a cell with a positive time to the first token; found none")
    return Cost(_nnls(prefill_rows, 1, 0, 2), _nnls(step_rows, 0, 1, 2) if step_rows else None)


def corners(cells: Iterable[Workload], workload: Workload) -> int:
    """How many corners around the workload are held by measured cells, of CORNERS.

    A cell with a prompt and batch at least as short and small, one as long and small, one as short and large, one as
    long and large; and at both batches a context (prompt + output) that reaches the workload's, CONTEXT_SLACK included.
    More output tokens than measured are fine as long as the context is inside.
    """
    prompt, batch, context = workload.prompt_tokens, workload.batch, workload.context_tokens
    held = 0
    for cell in cells:
        shorter, longer = cell.prompt_tokens <= prompt, cell.prompt_tokens >= prompt
        reaches = cell.context_tokens * CONTEXT_SLACK >= context
        if cell.batch <= batch:
            held |= shorter | longer << 1 | reaches << 2
        if cell.batch >= batch:
            held |= shorter << 3 | longer << 4 | reaches << 5
    return held.bit_count()


def covers(cells: Iterable[Workload], workload: Workload) -> bool:
    """Whether measured cells bracket the workload: every corner is held by some cell."""
    return corners(cells, workload) == CORNERS


def _nnls(rows: Sequence[Coefficients], first: int, second: int, third: int) -> Coefficients:
    """Least squares of rows @ x = 1 with x >= 0.

    first, second, third: the columns, the one first that explains rows which cannot tell them apart.
    """
    g00 = g01 = g02 = g11 = g12 = g22 = h0 = h1 = h2 = 0.0
    for row in rows:
        u, v, w = row[first], row[second], row[third]
        g00 += u * u
        g01 += u * v
        g02 += u * w
        g11 += v * v
        g12 += v * w
        g22 += w * w
        h0 += u
        h1 += v
        h2 += w
    # Unit diagonal: the columns differ by many powers of ten.
    s0, s1, s2 = g00**-0.5, g11**-0.5, g22**-0.5
    g01 *= s0 * s1
    g02 *= s0 * s2
    g12 *= s1 * s2
    h0 *= s0
    h1 *= s1
    h2 *= s2
    x = _three(g01, g02, g12, (h0, h1, h2))
    if x is None or x[0] < 0.0 or x[1] < 0.0 or x[2] < 0.0:
        # Some coefficient is 0. Of all choices of the others the one with the largest h @ x fits best; ties stay with
        # the earlier.
        x, best = (h0, 0.0, 0.0), h0 * h0 * (1.0 + 1e-12)
        if h1 * h1 > best:
            x, best = (0.0, h1, 0.0), h1 * h1 * (1.0 + 1e-12)
        if h2 * h2 > best:
            x, best = (0.0, 0.0, h2), h2 * h2 * (1.0 + 1e-12)
        determinant = 1.0 - g01 * g01
        if determinant > _SINGULAR:
            p, q = (h0 - g01 * h1) / determinant, (h1 - g01 * h0) / determinant
            if p >= 0.0 and q >= 0.0 and h0 * p + h1 * q > best:
                x, best = (p, q, 0.0), (h0 * p + h1 * q) * (1.0 + 1e-12)
        determinant = 1.0 - g02 * g02
        if determinant > _SINGULAR:
            p, q = (h0 - g02 * h2) / determinant, (h2 - g02 * h0) / determinant
            if p >= 0.0 and q >= 0.0 and h0 * p + h2 * q > best:
                x, best = (p, 0.0, q), (h0 * p + h2 * q) * (1.0 + 1e-12)
        determinant = 1.0 - g12 * g12
        if determinant > _SINGULAR:
            p, q = (h1 - g12 * h2) / determinant, (h2 - g12 * h1) / determinant
            if p >= 0.0 and q >= 0.0 and h1 * p + h2 * q > best:
                x = (0.0, p, q)
    coefficients = [0.0, 0.0, 0.0]
    coefficients[first], coefficients[second], coefficients[third] = x[0] * s0, x[1] * s1, x[2] * s2
    return coefficients[0], coefficients[1], coefficients[2]


def _three(g01: float, g02: float, g12: float, h: Coefficients) -> Coefficients | None:
    """Solve [[1, g01, g02], [g01, 1, g12], [g02, g12, 1]] x = h by Cramer's rule; None where it is singular."""
    m00, m01, m02 = 1.0 - g12 * g12, g02 * g12 - g01, g01 * g12 - g02
    determinant = m00 + g01 * m01 + g02 * m02
    if determinant < _SINGULAR:
        return None
    h0, h1, h2 = h
    m11, m12, m22 = 1.0 - g02 * g02, g01 * g02 - g12, 1.0 - g01 * g01
    return (
        (m00 * h0 + m01 * h1 + m02 * h2) / determinant,
        (m01 * h0 + m11 * h1 + m12 * h2) / determinant,
        (m02 * h0 + m12 * h1 + m22 * h2) / determinant,
    )

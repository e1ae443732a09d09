"""How sure a pick must be, which times are the same, and how long a race may go on."""

from dataclasses import dataclass

BAND = 0.03
"""Candidates whose times differ by less are as fast as each other: in published A/B tables of engines smaller
differences are mostly noise."""
SURE = 0.95
"""The probability at which a pick is sure."""
LONG_LOAD_S = 60.0
"""A load this long costs more than the cells of an ordinary calibration."""
SHARES = 3.0
"""A first launch is given up after so many times its share of the budget that is left: so slow a candidate hardly wins,
and the others shall have their turn. A launch that is the fastest so far at anything goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long a race may go on."""

    rounds: int = 3
    """Launches of a candidate at most."""
    budget_s: float | None = None
    """No launch begins that is not expected to end within it; a launch that overruns it is given up."""
    shares: float = SHARES
    sure: float = SURE
    """The probability at which a race on a ladder is over."""
    long_load_s: float = LONG_LOAD_S
    """Where loads take longer than this, one round is followed by a rematch of the leaders only."""

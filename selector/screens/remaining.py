"""How long something still takes: as it is said, and as it is read from what another program said."""

import re
from typing import Final

from selector.screens.text import seconds

_LEFT: Final = re.compile(r"about (?:(\d+) s|(\d+):(\d\d) min|(\d+\.\d) h) left")
"""What `left` says."""


def about(value: float) -> str:
    """An estimated duration, which has no decimals.

    >>> about(24.3), about(125)
    ('24 s', '2:05 min')
    """
    return f"{max(1, round(value))} s" if value < 99.5 else seconds(value)


def left(remaining_s: float | None) -> str:
    """As in: about 2:10 min left; empty while nothing is known."""
    return "" if remaining_s is None else f"about {about(remaining_s)} left"


def left_in(line: str) -> float | None:
    """Seconds that a line says are left, the longest where it says it of several things; None: it does not say it.

    >>> left_in("loading  about 2:10 min left"), left_in("device 0: about 9 s left; device 1: about 24 s left")
    (130.0, 24.0)
    """
    told = [
        float(whole or 0) + 60.0 * float(minutes or 0) + float(rest or 0) + 3600.0 * float(hours or 0)
        for whole, minutes, rest, hours in _LEFT.findall(line)
    ]
    return max(told, default=None)

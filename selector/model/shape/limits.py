"""The largest numbers that are believed."""

from typing import Final

MOST: Final = 1 << 24
"""Ten times the largest size of any published model: vocabularies are below 300,000, hidden sizes below 20,000."""

MOST_LAYERS: Final = 10_000

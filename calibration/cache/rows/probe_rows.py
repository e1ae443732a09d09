"""A probe of a machine as a row of the cache, and back. Standard library only."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from calibration.codec import from_plain, to_plain
from calibration.probing.probe import Probe

COLUMNS = ("probe_id", "host", "taken_at", "content")
"""The columns of the table `probes`, in the order in which `probe` unpacks them."""

SELECT = f"SELECT {', '.join(COLUMNS)} FROM probes"  # noqa: S608 - constants


def row(probe: Probe) -> dict[str, Any]:
    """Column values of a probe; `content` is the whole of it as JSON.

    Raises:
        ValueError: a sample is no finite number.
    """
    content = json.dumps(to_plain(probe), separators=(",", ":"), allow_nan=False)
    return {"probe_id": probe.probe_id, "host": probe.host, "taken_at": float(probe.taken_at), "content": content}


def probe(row: Sequence[Any]) -> Probe:
    """Read a row: the values of COLUMNS, in that order.

    Raises:
        ValueError, TypeError: the row is malformed; who looks up leaves it out.
    """
    _, _, _, content = row
    return _read(content)


@lru_cache(64)
def _read(content: str) -> Probe:
    return from_plain(Probe, json.loads(content))

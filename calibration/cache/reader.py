"""What one database has, as launches and probes; malformed rows are left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from calibration.cache.rows import launch_rows as rows
from calibration.cache.rows import probe_rows
from calibration.errors import UsageError
from calibration.measurement import Outcome
from calibration.probing.probe import Probe

SELECT: Final = f"SELECT {', '.join(rows.COLUMNS)} FROM launches"  # noqa: S608 - constants
ORDER: Final = "ORDER BY started_at, run_id"
MALFORMED: Final = (ValueError, TypeError, KeyError, UsageError)

_UNDER_LOAD: Final = "record IN ('served', 'unserved')"
_KEY: Final = "architecture = :architecture AND quant = :quant AND device = :device"

_outcome = lru_cache(2048)(rows.outcome)
"""Keyed by the whole row, so never out of date: repeated lookups skip the parsing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads by key; its methods raise CacheError where the database cannot be read."""

    lookup: Callable[[str, Mapping[str, Any]], Iterable[Sequence[Any]]]
    """All rows of a statement with these values."""
    last: str
    """The column by which the launches that came last are found."""

    def find(
        self, *, architecture: str, quant: str, device: str, fingerprint: str | None = None, cut: str | None = ""
    ) -> list[Outcome]:
        """See Cache.find."""
        values = {"architecture": architecture, "quant": quant, "device": device}
        where = _KEY
        if fingerprint is not None:
            values["fingerprint"] = fingerprint
            where += " AND fingerprint = :fingerprint"
        if cut is not None:
            values["cut"] = cut
            where += " AND cut = :cut"
        return self._launches(f"WHERE {where} AND NOT {_UNDER_LOAD} {ORDER}", values)

    def find_served(self, *, architecture: str, quant: str, device: str, fingerprint: str) -> list[Outcome]:
        """See Cache.find_served."""
        values = {"architecture": architecture, "quant": quant, "device": device, "fingerprint": fingerprint}
        where = f"{_KEY} AND fingerprint = :fingerprint AND cut = '' AND {_UNDER_LOAD}"
        return self._launches(f"WHERE {where} {ORDER}", values)

    def find_on(self, *, device: str, hosts: Sequence[str]) -> list[Outcome]:
        """See Cache.find_on."""
        if not hosts:  # PostgreSQL takes no empty list
            return []
        named = {f"host_{number}": host for number, host in enumerate(hosts)}
        where = f"device = :device AND host IN ({', '.join(f':{name}' for name in named)})"
        return self._launches(f"WHERE {where} AND NOT {_UNDER_LOAD} {ORDER}", {"device": device, **named})

    def newest(self, count: int) -> list[Outcome]:
        """The launches that came last, at most `count`, the last first."""
        return self._launches(f"ORDER BY {self.last} DESC LIMIT :count", {"count": count})

    def probes(self, host: str | None = None) -> list[Probe]:
        """See Cache.probes."""
        where, values = ("", {}) if host is None else ("WHERE host = :host", {"host": host})
        probes = []
        for row in self.lookup(f"{probe_rows.SELECT} {where} ORDER BY taken_at, probe_id", values):
            with suppress(*MALFORMED):
                probes.append(probe_rows.probe(row))
        return probes

    def _launches(self, rest: str, values: Mapping[str, Any]) -> list[Outcome]:
        launches = []
        for row in self.lookup(f"{SELECT} {rest}", values):
            with suppress(*MALFORMED):
                launches.append(_outcome(row))
        return launches

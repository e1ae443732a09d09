"""Older results, wherever they are kept: a host's file, a folder of results, or an export of a cache."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from calibration.cache import exchange
from calibration.errors import UsageError
from calibration.measurement import Answered, Outcome
from selector.publish.hosts.host_file import HostResults, read
from selector.publish.hosts.public_names import public_names


def read_older(place: Path) -> list[HostResults]:
    """The results that a path holds, of each host.

    Args:
        place: a file of results/hosts, a folder that holds such files or hosts/ with them, or a file that
            `autobackend cache export` wrote.

    Raises:
        UsageError: it is not there, or a folder without results.
        CacheError: a file is neither results nor an export.
    """
    if place.is_dir():
        files = sorted((place / "hosts").glob("*.json")) or sorted(place.glob("*.json"))
        if not files:
            raise UsageError(f"{place} holds no results", "name a folder that autobackend publish wrote")
        return [read(file) for file in files]
    if not place.is_file():
        raise UsageError(f"{place} is not there", "name a file of results/hosts, a results folder or a cache export")
    if not _is_export(place):
        return [read(place)]
    with place.open(encoding="utf-8", errors="replace") as file:
        return of_launches(line for line in exchange.read(file) if isinstance(line, Outcome))


def of_launches(outcomes: Iterable[Outcome]) -> list[HostResults]:
    """Launches without anything else as the results of their hosts.

    What a backend's newest launch ran with counts as what was installed; what rules said is not known.
    """
    by_host: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.started_at):
        by_host.setdefault(outcome.identity.host, []).append(outcome)
    names = public_names(outcome.model for launches in by_host.values() for outcome in launches)
    return [
        HostResults(
            host=host,
            device=launches[-1].identity.device,
            device_kind="cuda" if any(_is_on_gpu(launch) for launch in launches) else "cpu",
            machine="",
            published_at=launches[-1].started_at,
            environments={launch.candidate.backend: launch.environment for launch in launches},
            verdicts={},
            outcomes=tuple(replace(launch, model=names[launch.model]) for launch in launches),
        )
        for host, launches in by_host.items()
    ]


def _is_on_gpu(launch: Outcome) -> bool:
    return isinstance(launch, Answered) and launch.gpu_memory_bytes is not None


def _is_export(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as opened:
        first = opened.readline()
    try:
        header = json.loads(first)
    except ValueError:  # a results file is indented
        return False
    return isinstance(header, dict) and header.get("format") == exchange.FORMAT

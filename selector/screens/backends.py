"""The screens of `backends`: what is installed where, and how an installation goes; and the same as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.environments.requirement_set import RequirementSet
from calibration.environments.venvs import Venv, Venvs
from calibration.registry import all_backends
from selector.host.spec import HostSpec
from selector.install.install import Failed, Installed, Outcome, Skipped
from selector.screens.text import age, columns, plural, seconds, size


def backends_json(host: HostSpec) -> list[dict[str, Any]]:
    """What `autobackend backends list --json` prints, in the static order."""
    rooms = Venvs().all()
    found = []
    for name, backend in all_backends().items():
        installation = host.installations.get(name)
        versions = installation.versions if installation else {}
        facts = backend.facts.on(host.device.kind)
        room = rooms.get(name)
        found.append(
            {
                "name": name,
                "title": facts.title,
                "url": facts.url,
                "package": facts.package,
                "version": versions.get(facts.package),
                "python": str(installation.python) if installation else None,
                "problem": installation.problem if installation else "",
                "devices": sorted(facts.devices),
                "device_here": host.device.kind in facts.devices,
                "variants": [v.name for v in backend.variants],
                "install": facts.install,
                "environment": room_json(room) if room else None,
                "used": room is not None and installation is not None and installation.python == room.python,
            }
        )
    return found


def room_json(room: Venv) -> dict[str, Any]:
    """An environment of a backend's own."""
    return {
        "folder": str(room.folder),
        "python": str(room.python),
        "requirements": room.requirements,
        "version": room.version,
        "bytes": room.bytes,
        "seconds": room.seconds,
        "verified": {
            "candidate": room.verified.candidate,
            "tokens": list(room.verified.tokens),
            "seconds": room.verified.seconds,
            "at": room.verified.at,
        },
    }


def backends_screen(backends: Sequence[dict[str, Any]], across: int | None = None) -> list[str]:
    """A line for each backend."""
    rows = [("backend", "package", "version", "devices", "here", "size", "verified", "variants", "python")]
    for b in backends:
        room = b["environment"] if b["used"] else None
        rows.append(
            (
                b["name"],
                b["package"],
                b["version"] or "not installed",
                " ".join(b["devices"]),
                "yes" if b["device_here"] else "no",
                size(room["bytes"]) if room else "-",
                f"{age(room['verified']['at'])} in {seconds(room['verified']['seconds'])}" if room else "-",
                " ".join(b["variants"]),
                b["python"] or "-",
            )
        )
    lines = columns(rows, "<<<<<><<<", across=across)
    unused = [b for b in backends if b["environment"] and not b["used"]]
    for b in unused:
        lines.append(f"{b['name']} has an environment that is not used: {b['environment']['folder']}")
    return lines


def plan_screen(wanted: RequirementSet, *, root: Path, free_bytes: int, base: Path, version: str) -> list[str]:
    """What an installation is about to do."""
    about = f"about {size(wanted.bytes)}" if wanted.bytes else "of a size that is not known"
    return [
        f"{wanted.backend}: {plural(len(wanted.pins), 'package')} of {wanted.file.name} into {root}",
        f"  {about}; {size(free_bytes)} are free; Python {version} of {base}",
    ]


def outcome_screen(outcome: Outcome) -> str:
    """One sentence about one backend."""
    match outcome:
        case Installed(room=room, new=True):
            its = room.verified
            return (
                f"{room.backend} {room.version} is installed in {room.folder}: {size(room.bytes)}, made in"
                f" {seconds(room.seconds)}; {its.candidate} generated {plural(len(its.tokens), 'token')}"
                f" ({' '.join(map(str, its.tokens))}) with a tiny model"
            )
        case Installed(room=room):
            return f"{room.backend} {room.version} is installed already, in {room.folder}: {size(room.bytes)}"
        case Skipped():
            return f"{outcome.backend} is left out: {outcome.reason}"
        case Failed():
            return f"{outcome.backend} is not installed: {outcome.error.message}"


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """What `autobackend backends install --json` prints of one backend."""
    match outcome:
        case Installed(room=room):
            return {"name": room.backend, "installed": True, "new": outcome.new, "environment": room_json(room)}
        case Skipped():
            return {"name": outcome.backend, "installed": False, "skipped": outcome.reason}
        case Failed():
            return {
                "name": outcome.backend,
                "installed": False,
                "failed": outcome.error.message,
                "mend": outcome.error.mend,
                "exit_code": outcome.error.exit_code,
            }

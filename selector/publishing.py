"""publish(): what this host has measured as a file of results/hosts, and the matrix of all hosts there."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calibration.cache import Cache
from calibration.errors import AutobackendError, CacheError
from calibration.measurement import Outcome, from_json, to_json
from calibration.registry import all_backends
from selector import memo
from selector.explanation import explain
from selector.export.html import html
from selector.export.markdown import markdown
from selector.host import HostSpec
from selector.identity import identity
from selector.matrix import Judged, Published, matrix
from selector.screen import plural, size
from selector.screens_host import host_json

FORMAT = "autobackend-results"
VERSION = 1


def publish(cache: Cache, out: Path, *, host: HostSpec | None = None, now: float | None = None) -> list[Path]:
    """Write hosts/HOST.json of this host, and matrix.md and matrix.html of all hosts whose files are in `out`.

    Returns:
        The paths written.

    Raises:
        CacheError: nothing was measured here or there, a host's file cannot be read, or `out` cannot be written.
    """
    import time

    here = host or memo.this_host()
    outcomes = list(cache.all(host=here.identifier))
    folder = out / "hosts"
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if outcomes:
            told = _host_file(here, outcomes, time.time() if now is None else now)
            written.append(_write(folder / f"{here.identifier}.json", json.dumps(told, indent=1) + "\n"))
        hosts = [read(path) for path in sorted(folder.glob("*.json"))]
        if not hosts:
            raise CacheError(
                f"nothing was measured on this host; the cache is {cache.location}",
                "measure something first: autobackend calibrate shape:smollm2-135m",
            )
        order = [f"{name}:{v.name}" for name, backend in all_backends().items() for v in backend.variants]
        found = matrix(hosts, order)
        written.append(_write(out / "matrix.md", markdown(found)))
        written.append(_write(out / "matrix.html", html(found)))
    except OSError as error:
        raise CacheError(f"{out} cannot be written: {error.strerror}", "name another folder with --out") from error
    return written


def read(path: Path) -> Published:
    """Read a host's file.

    Raises:
        CacheError: it is none, or of a newer version.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if (told["format"], told["version"]) != (FORMAT, VERSION):
            raise CacheError(
                f"{path} is {told['format']} version {told['version']}; this autobackend reads {FORMAT} {VERSION}",
                "upgrade autobackend, or move the file away",
            )
        host = told["host"]
        cores, memory = plural(int(host["cores"]), "core"), size(int(host["memory_bytes"]))
        return Published(
            host=str(host["identifier"]),
            device=str(host["devices"][0]["name"]),
            machine=f"{host['cpu_model']}, {cores}, {memory}",
            published_at=float(told["published_at"]),
            environments={str(name): _texts(env) for name, env in told["environments"].items()},
            verdicts={str(m["model"]): tuple(_judged(v) for v in m["verdicts"]) for m in told["models"]},
            outcomes=tuple(from_json(record) for record in told["records"]),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise CacheError(
            f"{path} is no host's results: {type(error).__name__}: {error}", "move the file away"
        ) from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}") from error


def _judged(verdict: Mapping[str, Any]) -> Judged:
    return Judged(
        label=f"{verdict['backend']}:{verdict['variant']}",
        reasons=tuple(str(reason["text"]) for reason in verdict["reasons"]),
        left_out=str(verdict["left_out"]),
    )


def _texts(env: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(version) for name, version in env.items()}


def _host_file(host: HostSpec, outcomes: list[Outcome], now: float) -> dict[str, Any]:
    told = host_json(host)
    for device in told["devices"]:
        del device["free_bytes"]  # of the moment
    models = {outcome.model: outcome.identity for outcome in outcomes}
    verdicts = []
    for model, its in sorted(models.items()):
        try:
            explanation = explain(model, host=host)
        except AutobackendError:
            continue  # a folder that is gone: its measurements stand, only what was refused is not known
        if identity(explanation.spec, host, device_count=its.device_count) == its:
            verdicts.append({"model": model, "verdicts": explanation.to_json()["verdicts"]})
    return {
        "format": FORMAT,
        "version": VERSION,
        "published_at": now,
        "host": told,
        "environments": memo.environments(host),
        "models": verdicts,
        "records": [to_json(outcome) for outcome in outcomes],
    }


def _write(path: Path, text: str) -> Path:
    """Whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path

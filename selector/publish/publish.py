"""publish(): what this host has measured as a file of results/hosts, and the matrix of all hosts there."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.errors import AutobackendError, CacheError
from calibration.measurement import Failure, Outcome, from_json, to_json
from calibration.registry import all_backends
from calibration.whole_file import write_whole
from selector import context as memo
from selector.explanation import explain
from selector.host.spec import HostSpec
from selector.identity import identity
from selector.publish.html import html
from selector.publish.markdown import markdown
from selector.publish.matrix import Judged, Published, matrix
from selector.screens.text import plural, size

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
            batching=_texts(told.get("batching", {})),
            on_request=frozenset(map(str, told.get("on_request", ()))),
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
    told = host.to_json()
    for device in told["devices"]:
        del device["free_bytes"]  # of the moment
    models = {outcome.model: outcome.identity for outcome in outcomes}
    names, places = public_names(models), _places(host, models)
    verdicts = []
    for model, its in sorted(models.items()):
        try:
            explanation = explain(model, host=host)
        except AutobackendError:
            continue  # a folder that is gone: its measurements stand, only what was refused is not known
        if identity(explanation.spec, host, device_count=its.device_count) == its:
            verdicts.append({"model": names[model], "verdicts": explanation.to_json()["verdicts"]})
    return {
        "format": FORMAT,
        "version": VERSION,
        "published_at": now,
        "host": told,
        "environments": memo.environments(host),
        "batching": _batching(host),
        "on_request": _on_request(host),
        "models": verdicts,
        "records": [{**to_json(o), "model": names[o.model], **_plain(o, places)} for o in outcomes],
    }


def _batching(host: HostSpec) -> dict[str, str]:
    """Candidate label: what its engine does with several sequences."""
    return {
        f"{name}:{variant.name}": variant.batching or backend.facts.on(host.device.kind).batching
        for name, backend in all_backends().items()
        for variant in backend.variants
    }


def _on_request(host: HostSpec) -> list[str]:
    """Labels of variants that must be named to be candidates here."""
    return [
        f"{name}:{variant.name}"
        for name, backend in all_backends().items()
        for variant in backend.variants
        if variant.on_request and variant.on_request_device in {"", host.device.kind}
    ]


def public_names(models: Iterable[str]) -> dict[str, str]:
    """Name of each model for everybody to read: no folders of this machine, yet no two alike.

    `/data/llama-q4_0.gguf` is `llama-q4_0.gguf`, a snapshot in the hub's cache is its hub id; shapes and hub ids stay.
    """
    found: dict[str, str] = {}
    for model in sorted(set(models)):
        name = short_name(model)
        parts = Path(model).parts
        # Two folders of one name are told apart by the folders that hold them.
        for depth in range(2, len(parts)):
            if name not in found.values():
                break
            name = "/".join(part.strip("/") for part in parts[-depth:])
        found[model] = name
    return found


def short_name(model: str) -> str:
    """See public_names."""
    path = Path(model)
    hub = next((part for part in path.parts if part.startswith("models--")), "")
    if hub:
        return hub.removeprefix("models--").replace("--", "/")
    local = model.startswith(("/", ".", "~")) or len(path.parts) > 2 or path.suffix == ".gguf"
    return path.name or model if local else model


def _places(host: HostSpec, models: Iterable[str]) -> dict[str, str]:
    """Folders of this machine that messages and logs may name, and what stands for them; the longest first."""
    found = {str(Path(m).expanduser().absolute().parent): "..." for m in models if short_name(m) != m}
    found |= {str(i.python.parent.parent): "PREFIX" for i in host.installations.values()}
    found |= {str(ArtifactStore().root): "ARTIFACTS", tempfile.gettempdir(): "TMP", str(Path.home()): "~"}
    return dict(sorted((pair for pair in found.items() if len(pair[0]) > 1), key=lambda pair: -len(pair[0])))


def _plain(outcome: Outcome, places: Mapping[str, str]) -> dict[str, str]:
    """What a failure says, without the folders of this machine."""
    if not isinstance(outcome, Failure):
        return {}
    told = {"message": outcome.message, "log_tail": outcome.log_tail}
    for folder, name in places.items():
        told = {key: text.replace(folder, name) for key, text in told.items()}
    return told


def _write(path: Path, text: str) -> Path:
    write_whole(path, text, mode=0o644)
    return path

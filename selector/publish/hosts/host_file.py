"""The file of one host in results/hosts: its raw launches, what the rules said of each model, and its versions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calibration.codec import from_plain, to_plain
from calibration.errors import AutobackendError, CacheError
from calibration.measurement import Identity, Measurement, Outcome, from_json, to_json
from calibration.probing.probe import Probe
from calibration.registry import all_backends
from calibration.rung import Rung
from selector import context as contexts
from selector.evidence.identity import identity
from selector.explanation import explain
from selector.host.spec import HostSpec
from selector.model.rungs import spec_at
from selector.model.spec import ModelSpec
from selector.predict.limits.roofline import Needs, needs_of
from selector.publish.hosts.public_names import places_of, public_names, without_places
from selector.screens.text import plural, size

FORMAT = "autobackend-results"
VERSION = 5
"""2: launches with the hash of their config, and checks; 3: launches say whether they ran a few layers only; 4:
launches that were served under load; 5: with the verdict on what was served. Older programs refuse such records."""

READ = frozenset({1, 2, 3, 4, VERSION})
"""The versions that this autobackend reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVerdict:
    """A verdict as a host file keeps it."""

    label: str
    reasons: tuple[str, ...] = ()
    left_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResults:
    """What one host has measured."""

    host: str
    """Its identifier."""
    device: str
    device_kind: str
    """Device.kind."""
    machine: str
    """CPU, cores and memory, as people say it."""
    published_at: float
    environments: Mapping[str, Mapping[str, str]]
    """Backend name: its environment when this was published."""
    verdicts: Mapping[str, tuple[KeptVerdict, ...]]
    """Model, as it was named: the verdicts on every variant, in the static order."""
    outcomes: tuple[Outcome, ...]
    batching: Mapping[str, str] = field(default_factory=dict)
    """Candidate label: what its engine does with several sequences (Facts.batching)."""
    on_request: frozenset[str] = frozenset()
    """Labels of the variants that are candidates there only when they are named, whatever else is allowed."""
    probe: Probe | None = None
    """What the machine's memory and arithmetic reach; None where it was not probed."""
    needs: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Needs]]]] = field(default_factory=dict)
    """Of a probed machine, by model, Identity.cut, candidate label and the label of a cell: what it needs of it."""


def read(path: Path) -> HostResults:
    """Read a host's file.

    Raises:
        CacheError: the file is not a host's results, or a newer version wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] not in READ:
            raise CacheError(
                f"{path} is {content['format']} version {content['version']}; "
                f"this autobackend reads {FORMAT} {VERSION}",
                "upgrade autobackend, or move the file away",
            )
        host = content["host"]
        cores, memory = plural(int(host["cores"]), "core"), size(int(host["memory_bytes"]))
        return HostResults(
            host=str(host["identifier"]),
            device=str(host["devices"][0]["name"]),
            device_kind=str(host["devices"][0]["kind"]),
            machine=f"{host['cpu_model']}, {cores}, {memory}",
            published_at=float(content["published_at"]),
            environments={str(name): _texts(versions) for name, versions in content["environments"].items()},
            verdicts={str(m["model"]): tuple(_kept_verdict(v) for v in m["verdicts"]) for m in content["models"]},
            outcomes=tuple(from_json(record) for record in content["records"]),
            batching=_texts(content.get("batching", {})),
            on_request=frozenset(map(str, content.get("on_request", ()))),
            probe=None if content.get("probe") is None else from_plain(Probe, content["probe"]),
            needs={str(m["model"]): _kept_needs(m["needs"]) for m in content["models"] if "needs" in m},
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CacheError(
            f"{path} is not a host's results: {type(error).__name__}: {error}",
            "name a file that autobackend publish wrote; in a folder of results, move this one away",
        ) from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror}") from error


def content_of(
    host: HostSpec, outcomes: Sequence[Outcome], now: float, *, probe: Probe | None = None
) -> dict[str, Any]:
    """What the file of `host` holds: JSON that `read` reads, without the folders of this machine.

    Args:
        probe: of this machine; beside it stands what each candidate needs for each cell that it was timed on.
    """
    described = host.to_json()
    for device in described["devices"]:
        del device["free_bytes"]  # it was true for a moment only
    identities = {outcome.model: outcome.identity for outcome in outcomes}
    names, places = public_names(identities), places_of(host, identities)
    verdicts = []
    for model, measured in sorted(identities.items()):
        try:
            explanation = explain(model, host=host)
        except AutobackendError:
            continue  # the model's folder is gone: its measurements stand, what the rules would say is not known
        if (
            identity(explanation.spec, host, device_count=measured.device_count).shape
            == replace(measured, cut="").shape
        ):
            kept = {"model": names[model], "verdicts": explanation.to_json()["verdicts"]}
            needs = {} if probe is None else {"needs": _needs(explanation.spec, host, measured, outcomes)}
            verdicts.append({**kept, **needs})
    return {
        "format": FORMAT,
        "version": VERSION,
        "published_at": now,
        "host": described,
        "environments": contexts.DEFAULT.environments(host),
        "batching": _batching(host),
        "on_request": _on_request(host),
        **({} if probe is None else {"probe": to_plain(probe)}),
        "models": verdicts,
        "records": [{**to_json(o), "model": names[o.model], **without_places(o, places)} for o in outcomes],
    }


def _kept_verdict(verdict: Mapping[str, Any]) -> KeptVerdict:
    return KeptVerdict(
        label=f"{verdict['backend']}:{verdict['variant']}",
        reasons=tuple(str(reason["text"]) for reason in verdict["reasons"]),
        left_out=str(verdict["left_out"]),
    )


def _kept_needs(needs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Needs]]]:
    return {
        str(cut): {
            str(label): {str(cell): from_plain(Needs, needed) for cell, needed in cells.items()}
            for label, cells in of_labels.items()
        }
        for cut, of_labels in needs.items()
    }


def _needs(
    spec: ModelSpec, host: HostSpec, measured: Identity, outcomes: Sequence[Outcome]
) -> dict[str, dict[str, dict[str, Any]]]:
    """What each candidate needs for each cell that was timed, under this name or of its shape, by Identity.cut."""
    shape = replace(measured, cut="").shape
    timed = {
        (outcome.identity.cut, outcome.candidate, cell.workload): None
        for outcome in outcomes
        if isinstance(outcome, Measurement) and replace(outcome.identity, cut="").shape == shape
        for cell in outcome.cells
    }
    needs: dict[str, dict[str, dict[str, Any]]] = {}
    for cut, candidate, workload in timed:
        launched = spec_at(spec, Rung.parse(cut)) if cut else spec
        needed = needs_of(launched, host, candidate, workload, devices=measured.device_count)
        if needed is not None:
            needs.setdefault(cut, {}).setdefault(candidate.label, {})[workload.label] = to_plain(needed)
    return needs


def _texts(versions: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(version) for name, version in versions.items()}


def _batching(host: HostSpec) -> dict[str, str]:
    """Candidate label: what its engine does with several sequences."""
    return {
        f"{name}:{variant.name}": variant.batching or backend.facts.on(host.device.kind).batching
        for name, backend in all_backends().items()
        for variant in backend.variants
    }


def _on_request(host: HostSpec) -> list[str]:
    """Labels of the variants that are candidates here only when they are named."""
    return [
        f"{name}:{variant.name}"
        for name, backend in all_backends().items()
        for variant in backend.variants
        if variant.on_request and variant.on_request_device in {"", host.device.kind}
    ]

"""Predicted beside measured: each line of a run, and each launch that hosts have recorded."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.memory_truth.cases import HELD_OUT, MODELS, name_of
from benchmarks.memory_truth.measure import Line
from calibration.conversion.estimate import estimate
from calibration.errors import ModelError
from calibration.measurement import Measurement, from_json
from calibration.registry import all_backends
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.device import Device
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import judge

_OPENVINO_SCORES_LAST = datetime(2026, 11, 26, 4, 52, tzinfo=UTC).timestamp()
_LLAMACPP_SCORES_FEWER = datetime(2026, 11, 24, 13, 16, tzinfo=UTC).timestamp()
"""When the code of launches was changed, see `_checked_otherwise`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One peak."""

    candidate: str
    model: str
    what: str
    """`converting`, or the workload."""
    predicted_bytes: int
    measured_bytes: int

    @property
    def error(self) -> float:
        """0.1: the prediction is a tenth too large; negative: it is too small."""
        return self.predicted_bytes / self.measured_bytes - 1


def compared(lines: Iterable[Line], hosts: Mapping[str, HostSpec]) -> Iterator[Compared]:
    """What was measured on these hosts, beside what the facts say today; failures and other lines are left out.

    Args:
        lines: of measure.
        hosts: by their identifiers.
    """
    places: dict[str, str] = {name_of(model): model for model in (*MODELS, *HELD_OUT)}
    for line in lines:
        host = hosts.get(line["host"])
        if host is None or "error" in line:
            continue
        name: str = line["model"]
        spec = ModelSpec.read(places.get(name, name))
        what = line.get("workload", "converting")
        predicted = (
            converting_bytes(spec, line["candidate"])
            if line["kind"] == "converting"
            else serving_bytes(spec, host, line["candidate"], Workload.parse(what))
        )
        yield Compared(
            candidate=line["candidate"],
            model=line["model"],
            what=what,
            predicted_bytes=predicted,
            measured_bytes=line["peak_bytes"],
        )


def serving_bytes(spec: ModelSpec, host: HostSpec, candidate: str, workload: Workload, *, checked: bool = False) -> int:
    """What the rules say of a candidate that serves a batch of this workload.

    Args:
        checked: its output is checked before, as in a calibration.
    """
    name, _, _ = candidate.partition(":")
    verdicts = judge(spec, host, Demand.of(workload=workload), {name: all_backends()[name]}, checked=checked)
    return next(v.needed_bytes for v in verdicts if v.candidate.label == candidate)


def converting_bytes(spec: ModelSpec, candidate: str) -> int:
    """What a conversion is expected to hold by the facts alone, whatever was converted here before."""
    name, _, variant_name = candidate.partition(":")
    backend = all_backends()[name]
    facts, variant = backend.facts, backend.variant(variant_name)
    expected = estimate(
        name,
        variant,
        parameters=spec.parameters,
        dtype=spec.dtype,
        time=facts.prepare_time,
        known=(),
        memory=facts.prepare_memory_of(
            variant, matrices_of_16_bits=spec.matrices_of_16_bits, model_type=spec.model_type
        ),
        embeddings=spec.vocab_size * spec.hidden_size,
        expert_parameters=spec.expert_parameters,
        layers=spec.layers,
    )
    return expected.memory_by_facts_bytes


def published(folder: Path) -> dict[str, HostSpec]:
    """The hosts in results/hosts/*.json, as far as memory goes by them."""
    contents = (json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json"))
    return {host.identifier: host for host in (_host(content["host"]) for content in contents)}


def recorded(hosts: Path) -> Iterator[Compared]:
    """The launches in results/hosts/*.json whose cells are as large as any of that model there.

    Others may have been given up within a larger cell. Of several launches of a candidate that which held most counts:
    a calibration needs so much. Launches of a part of the layers are left out, and those of `_checked_otherwise`.
    """
    for file in sorted(hosts.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        host = _host(content["host"])
        peaks: dict[tuple[str, str], dict[Workload, list[int]]] = defaultdict(lambda: defaultdict(list))
        for record in content["records"]:
            outcome = from_json(record)
            if (
                isinstance(outcome, Measurement)
                and not outcome.identity.cut
                and not outcome.gpu_memory_bytes
                and not _checked_otherwise(outcome)
            ):
                largest = max((cell.workload for cell in outcome.cells), key=_size)
                peaks[outcome.model, outcome.candidate.label][largest].append(outcome.peak_memory_bytes)
        for (model, candidate), by_workload in sorted(peaks.items()):
            largest = max((w for (of, _), cells in peaks.items() if of == model for w in cells), key=_size)
            known = candidate.partition(":")[0] in all_backends() and largest in by_workload
            if not known or (spec := _spec(model)) is None:
                continue
            yield Compared(
                candidate=candidate,
                model=f"{model} on {host.cpu_name}",
                what=largest.label,
                predicted_bytes=serving_bytes(spec, host, candidate, largest, checked=True),
                measured_bytes=max(by_workload[largest]),
            )


def table(all_compared: Sequence[Compared]) -> list[str]:
    """A line of Markdown for each candidate and for all, serving and converting apart."""
    groups: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for one in all_compared:
        kind = "converting" if one.what == "converting" else "serving"
        groups[kind, one.candidate].append(one)
        groups[kind, "all"].append(one)
    lines = ["| | candidate | peaks | median error | most too little | most too much |", "|---|---|---|---|---|---|"]
    for (kind, candidate), ones in sorted(groups.items()):
        lines.append(f"| {kind} | {candidate} | {len(ones)} | {' | '.join(_figures(ones))} |")
    return lines


def _figures(ones: Sequence[Compared]) -> tuple[str, str, str]:
    errors = [one.error for one in ones]
    low, high = min(ones, key=lambda one: one.error), max(ones, key=lambda one: one.error)
    return (
        f"{median(map(abs, errors)):.0%}",
        f"{low.error:+.0%} ({low.model}, {low.what})" if low.error < 0 else "-",
        f"{high.error:+.0%} ({high.model}, {high.what})" if high.error > 0 else "-",
    )


def _checked_otherwise(launch: Measurement) -> bool:
    """Its output was checked in a way that held more than today's does: of that nothing is to be learnt.

    Until 3f65769 OpenVINO's graph told the scores of all positions of the check's long prompt, and until 89d8f1b there
    were two graphs; until ffa100c llama.cpp told the scores of all tokens, each a Python object.
    """
    if launch.round > 1:
        return False
    candidate = launch.candidate
    if candidate.backend == "openvino" and candidate.variant.endswith("-sdpa"):
        return launch.started_at < _OPENVINO_SCORES_LAST
    return candidate.backend == "llamacpp" and launch.started_at < _LLAMACPP_SCORES_FEWER


def _size(workload: Workload) -> int:
    return workload.context_tokens * workload.batch


def _spec(model: str) -> ModelSpec | None:
    """None of a model that only that host had."""
    try:
        return ModelSpec.read(model) if model.startswith("shape:") else None
    except ModelError:
        return None


def _host(told: Mapping[str, Any]) -> HostSpec:
    """As far as memory goes by it."""
    [device, *_] = told["devices"]
    size = device["memory_bytes"]
    return HostSpec(
        identifier=told["identifier"],
        cpu_name=told["cpu_name"],
        cpu_model=told["cpu_model"],
        cpu_features=frozenset(told["cpu_features"]),
        cores=told["cores"],
        memory_bytes=told["memory_bytes"],
        devices=(Device(kind=device["kind"], name=device["name"], memory_bytes=size, free_bytes=size),),
        installations={},
    )

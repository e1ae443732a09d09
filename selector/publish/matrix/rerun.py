"""The `autobackend calibrate` commands that measure the launches of a host again."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from calibration.measurement import Identity, Measurement, Outcome, OutputVerdict
from calibration.workload import Workload, grid
from selector.publish.hosts.host_file import KeptVerdict

LOSSY = "lossy ("
"""How rules begin to say that a variant is left out for being lossy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """What to ask `calibrate` for, to have launches like these."""

    cells: tuple[Workload, ...]
    backends: tuple[str, ...] = ()
    """Empty: every candidate that there is."""
    lossy: bool = False
    devices: int = 1


def reruns_of(
    identity: Identity, outcomes: Sequence[Outcome], verdicts: Mapping[str, KeptVerdict], on_request: Collection[str]
) -> tuple[Rerun, ...]:
    """What was asked for, as far as the launches of one model show it; an Rerun for each set of cells."""
    cells_of = {
        o.calibration_id: tuple(dict.fromkeys(c.workload for c in o.cells))
        for o in outcomes
        if isinstance(o, Measurement)
    }
    lossy_of: dict[tuple[Workload, ...], dict[str, bool]] = {}
    """By the cells, then by the label of each candidate that was launched: was its output lossy."""
    for outcome in outcomes:
        # A calibration of failures alone shows no cells; the other calibrations of the model say more.
        if outcome.calibration_id in cells_of:
            label = outcome.candidate.label
            labels = lossy_of.setdefault(cells_of[outcome.calibration_id], {})
            labels[label] = labels.get(label, False) or is_lossy(outcome)
    requests = []
    for cells, labels in lossy_of.items():
        held_back = {label for label, v in verdicts.items() if v.left_out.startswith(LOSSY) and not v.reasons}
        lossy = any(labels.values()) or not held_back.isdisjoint(labels)
        ordinary = {label for label, v in verdicts.items() if not (v.reasons or v.left_out)}
        ordinary |= held_back.difference(on_request) if lossy else set()
        every_candidate = not verdicts or ordinary == set(labels)
        requests.append(
            Rerun(
                cells=cells,
                backends=() if every_candidate else _backends_or_labels(labels, ordinary),
                lossy=lossy,
                devices=identity.device_count,
            )
        )
    return tuple(requests)


def command(model: str, rerun: Rerun) -> str:
    """The command that measures the same cells of the same candidates."""
    words = ["autobackend", "calibrate", model]
    if set(rerun.cells) not in ({*grid()}, {*grid(gpu=True)}):
        # The two corners bracket what lies between them.
        corners = [
            Workload(prompt_tokens=pick(c.prompt_tokens for c in rerun.cells), output_tokens=output_tokens, batch=batch)
            for pick, output_tokens, batch in (
                (min, rerun.cells[0].output_tokens, min(c.batch for c in rerun.cells)),
                (max, rerun.cells[0].output_tokens, max(c.batch for c in rerun.cells)),
            )
        ]
        for corner in dict.fromkeys(corners):
            words += ["--workload", corner.label]
    if rerun.backends:
        words += ["--backends", ",".join(rerun.backends)]
    if rerun.lossy:
        words.append("--allow-lossy")
    if rerun.devices > 1:
        words += ["--tensor-parallel", str(rerun.devices)]
    return shlex.join(words)


def is_lossy(outcome: Outcome) -> bool:
    """Was it measured, and is its output less precise than the model's."""
    return isinstance(outcome, Measurement) and outcome.agreement.verdict is OutputVerdict.LOSSY


def _backends_or_labels(labels: Iterable[str], ordinary: Iterable[str]) -> tuple[str, ...]:
    """The labels; where all ordinary variants of a backend are among them, the backend's name instead."""
    by_backend: dict[str, set[str]] = {}
    for label in labels:
        by_backend.setdefault(label.partition(":")[0], set()).add(label)
    names: list[str] = []
    for backend, launched in by_backend.items():
        ordinary_here = {label for label in ordinary if label.partition(":")[0] == backend}
        names += [backend] if launched == ordinary_here else sorted(launched)
    return tuple(names)

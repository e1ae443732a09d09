"""What the present rules say of a case and a candidate, beside what loading showed."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.rule_truth.cases.kept import Kept, restore
from benchmarks.rule_truth.stand_ins import is_the_engines_own
from benchmarks.rule_truth.trial import WORKLOAD
from benchmarks.rule_truth.truth import Trial
from calibration.errors import AutobackendError
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import judge

Reasons = Mapping[str, tuple[str, ...]]
"""Candidate label: why the rules refuse it; nothing: it is legal."""


_OF_THE_CASE = (
    "needs token ids below vocab_size",
    "Vocabulary has size 321 but the model expected a vocabulary of size 320",
    "[json.exception.type_error.302] type must be string, but is null",
)
"""Words of llama.cpp's converter and of CTranslate2 about the tokenizer that is written for a case whose config
names no end of a text, or one beyond its 320 tokens: there is none then, or transformers takes the model type's own
class, which adds one. Published checkpoints name theirs."""


class Pairing(StrEnum):
    """How rules and truth compare."""

    RIGHT_YES = "right yes"
    RIGHT_NO = "right no"
    FALSE_YES = "false yes"
    FALSE_NO = "false no"
    UNKNOWN = "unknown"
    """It loaded, and no reference says whether its output is right; or it could not be read at the time; or what stands
    in for a GPU, or the case's tokenizer, made it end so, and not the model in the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A case and a candidate, judged and tried."""

    trial: Trial
    reasons: tuple[str, ...]
    """Of the rules; none: it is legal."""

    @property
    def pairing(self) -> Pairing:
        if not is_the_engines_own(self.trial) or any(words in self.trial.message for words in _OF_THE_CASE):
            return Pairing.UNKNOWN
        match self.trial.verdict:
            case "unchecked":
                return Pairing.UNKNOWN
            case "unread":
                return Pairing.FALSE_NO if self.reasons else Pairing.UNKNOWN
        if self.trial.works:
            return Pairing.FALSE_NO if self.reasons else Pairing.RIGHT_YES
        return Pairing.RIGHT_NO if self.reasons else Pairing.FALSE_YES


def quiet(host: HostSpec) -> HostSpec:
    """The host with all its memory free: what else runs at the moment is no part of a rule's truth."""
    first, *others = host.devices
    return dataclasses.replace(host, devices=(dataclasses.replace(first, free_bytes=first.memory_bytes), *others))


def reasons_of(place: Path, host: HostSpec) -> Reasons:
    """What the rules say of every candidate.

    Raises:
        ModelError: the config cannot be read.
    """
    spec = ModelSpec.read(place)
    demand = Demand.of(workloads=[WORKLOAD.label], allow_lossy=True).for_positions(spec.max_position)
    return {
        verdict.candidate.label: tuple(f"{reason.rule}: {reason.text}" for reason in verdict.reasons)
        for verdict in judge(spec, host, demand)
    }


def judged(
    trials: Iterable[Trial], cases: Mapping[str, Kept], host_of: Callable[[str], HostSpec], scratch: Path
) -> Iterator[Pair]:
    """Each trial beside what the rules say today.

    Args:
        cases: by digest.
        host_of: a backend's name: the host that it runs on.
        scratch: an empty folder, where the cases are restored.
    """
    known = dict[tuple[str, str], Reasons | str]()
    for trial in trials:
        host = host_of(trial.candidate.partition(":")[0])
        key = (trial.config, host.device.name)
        if key not in known:
            known[key] = _judged(cases[trial.config], host, scratch / f"{trial.config}-{host.device.kind}")
        match known[key]:
            case str(problem):
                yield Pair(trial=trial, reasons=(f"cannot be read: {problem}",))
            case reasons:
                yield Pair(trial=trial, reasons=reasons[trial.candidate])


def engine_of(label: str) -> str:
    """The backend of a label; OpenVINO's two pipelines are two engines: `openvino-sdpa`, `openvino-pa`."""
    backend, _, variant = label.partition(":")
    return f"{backend}-{variant.rpartition('-')[2]}" if backend == "openvino" else backend


def _judged(kept: Kept, host: HostSpec, folder: Path) -> Reasons | str:
    try:
        return reasons_of(restore(kept, folder), host)
    except AutobackendError as error:
        return error.message

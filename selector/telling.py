"""What is said beside an answer or instead of one: warnings, notes, refusals."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from calibration.errors import IllegalBackend, NoLegalBackend
from calibration.workload import DEFAULT
from selector.answer import Source, Stale
from selector.evidence import Elsewhere, Evidence
from selector.host import HostSpec
from selector.model import ModelSpec
from selector.ranking import Ranked
from selector.rules import Demand, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What a selection says beside its answer."""

    spec: ModelSpec
    host: HostSpec
    demand: Demand
    pick: str
    source: Source
    origin: Elsewhere | None
    known: Evidence
    ranking: tuple[Ranked, ...]

    def warnings(self, *, forced: bool) -> Iterable[str]:
        """What the answer lacks, each with the command that mends it."""
        again = calibrate_command(self.spec.name, self.demand)
        failure = self.known.failed.get(self.pick)
        if failure:
            when = " with other versions" if self.pick in self.known.outdated else ""
            yield f"{self.pick} failed here{when}: {failure.kind}, {failure.message}. Measure again: {again}"
        elif self.source is Source.STALE:
            changed = ", ".join(self.known.stale[self.pick].differences)
            yield f"{self.pick} was measured with other versions ({changed}). Measure again: {again}"
        elif self.source is Source.RULES and not forced:
            yield f"{self.spec.name} was never measured on this host; this is the static order. Measure it: {again}"

    def notes(self, stale: Sequence[Stale]) -> Iterable[str]:
        """What is good to know beside the answer."""
        if self.origin is not None:
            here = self.origin.identity.host == self.host.identifier
            where = "here" if here else "on another host with the same device"
            yield f"{self.origin.model} was measured {where}; {self.spec.name} was not"
        chosen = next((r for r in self.ranking if r.candidate.label == self.pick), None)
        if self.source is Source.MEASURED and chosen:
            for s in stale:
                if s.e2e_s is not None and s.e2e_s < chosen.e2e_s:
                    yield (
                        f"{s.candidate.label} was faster before {', '.join(s.differences)}."
                        f" Measure it again: {calibrate_command(self.spec.name, self.demand)}"
                    )


def calibrate_command(model: str, demand: Demand) -> str:
    """What a user types to have `model` measured for this demand."""
    options = ["--workload", demand.workload.label] if demand.workload != DEFAULT else []
    options += ["--allow-lossy"] if demand.allow_lossy else []
    options += ["--max-kl", f"{demand.max_kl:g}"] if demand.max_kl is not None else []
    options += ["--trust-remote-code"] if demand.trust_remote_code else []
    return shlex.join(["autobackend", "calibrate", model, *options])


def refusal(spec: ModelSpec, verdicts: Sequence[Verdict], backend: str | None) -> IllegalBackend | NoLegalBackend:
    """The error that says why nothing, or not the backend that the user named, can run the model; every reason."""
    see = f"see {shlex.join(['autobackend', 'explain', spec.name])}"
    if backend is None:
        lines = [f"  {name}: {reason}" for name, reason in reasons_of(verdicts)]
        return NoLegalBackend("\n".join([f"no backend can run {spec.name} here", *lines]), see)
    named = [v for v in verdicts if backend in {v.candidate.backend, v.candidate.label}]
    lines = [f"  {reason}" if name == backend else f"  {name}: {reason}" for name, reason in reasons_of(named)]
    if named[0].candidate.label == backend:
        lines = [f"  {reason}" for _, reason in reasons_of(named)]
    return IllegalBackend("\n".join([f"{backend} cannot run {spec.name}", *lines]), see)


def reasons_of(verdicts: Sequence[Verdict], everyone: Sequence[Verdict] = ()) -> list[tuple[str, str]]:
    """(name, reason) pairs in order, each reason of a backend once, under the name of the variants that it holds for.

    Args:
        everyone: all verdicts there are, where `verdicts` are some: a backend's own name stands for all its variants.
    """
    found: list[tuple[str, str]] = []
    for backend in dict.fromkeys(v.candidate.backend for v in verdicts):
        of_all = {v.candidate.variant for v in (everyone or verdicts) if v.candidate.backend == backend}
        holds: dict[str, list[str]] = {}
        for verdict in verdicts:
            if verdict.candidate.backend == backend:
                for text in [r.text for r in verdict.reasons] or [verdict.left_out]:
                    holds.setdefault(text, []).append(verdict.candidate.variant)
        for text, variants in holds.items():
            found.append((backend if of_all == set(variants) else f"{backend}:{','.join(variants)}", text))
    return found


def all_wrong(spec: ModelSpec, verdicts: Sequence[Verdict], known: Evidence) -> NoLegalBackend:
    """The error for a model of which every legal candidate answered wrong."""
    lines = [f"  {name}: {reason}" for name, reason in reasons_of([v for v in verdicts if v.reasons or v.left_out])]
    lines += [f"  {label}: {f.kind}, {f.message}" for label, f in known.failed.items()]
    return NoLegalBackend(
        "\n".join([f"no backend runs {spec.name} right here", *lines]),
        f"measure again with other versions: {shlex.join(['autobackend', 'calibrate', spec.name, '--again'])}",
    )


def grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(label, text) pairs with the labels of the same text together: `transformers:sdpa,eager`."""
    texts: dict[tuple[str, str], list[str]] = {}
    for label, text in pairs:
        backend, _, variant = label.partition(":")
        texts.setdefault((backend, text), []).append(variant)
    return [(f"{backend}:{','.join(variants)}", text) for (backend, text), variants in texts.items()]

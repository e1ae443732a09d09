"""The errors that say why nothing can run a model, and the reasons that they list."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from calibration.errors import IllegalBackend, NoLegalBackend
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.evidence import Evidence
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict


def refusal(
    spec: ModelSpec, verdicts: Sequence[Verdict], demand: Demand, host: HostSpec
) -> IllegalBackend | NoLegalBackend:
    """The error that gives every reason why no backend, or no backend that the user named, can run the model."""
    elsewhere = host.what_if is not None
    see = f"see {explain_command(spec.name, demand)}" + (f" --host {shlex.quote(host.place)}" if elsewhere else "")
    if not demand.forced:
        lines = [f"  {name}: {reason}" for name, reason in reasons_of(verdicts)]
        return NoLegalBackend("\n".join([f"no backend can run {spec.name} {host.where}", *lines]), see)
    named = [v for v in verdicts if demand.names(v.candidate.label)]
    title = ", ".join(demand.backends)
    alone = len(named) == 1  # then the first line names it
    lines = [f"  {reason}" if alone or name == title else f"  {name}: {reason}" for name, reason in reasons_of(named)]
    return IllegalBackend("\n".join([f"{title} cannot run {spec.name}", *lines]), see)


def explain_command(model: str, demand: Demand) -> str:
    """The command that shows the verdicts on all backends, whichever the user named."""
    return _of_rules(demand).command("explain", model)


def _of_rules(demand: Demand) -> Demand:
    """The demand without what no rule looks at, for all backends."""
    return replace(demand, backends=(), objective=Objective.LATENCY, ttft_s=None, tpot_s=None, price_per_hour=None)


def reasons_of(verdicts: Sequence[Verdict], everyone: Sequence[Verdict] = ()) -> list[tuple[str, str]]:
    """(name, reason) pairs in order. Each reason of a backend stands once, under the variants that it holds for.

    Args:
        everyone: all verdicts there are, if `verdicts` are only some of them. A reason that holds for all variants of a
            backend stands under the backend's own name.
    """
    pairs: list[tuple[str, str]] = []
    for backend in dict.fromkeys(v.candidate.backend for v in verdicts):
        every_variant = {v.candidate.variant for v in (everyone or verdicts) if v.candidate.backend == backend}
        variants_by_reason: dict[str, list[str]] = {}
        for verdict in verdicts:
            if verdict.candidate.backend == backend:
                for text in [reason.text for reason in verdict.reasons] or [verdict.left_out]:
                    variants_by_reason.setdefault(text, []).append(verdict.candidate.variant)
        for text, variants in variants_by_reason.items():
            pairs.append((backend if every_variant == set(variants) else f"{backend}:{','.join(variants)}", text))
    return pairs


def all_wrong(spec: ModelSpec, verdicts: Sequence[Verdict], known: Evidence, demand: Demand) -> NoLegalBackend:
    """The error for a model whose output is wrong by every legal candidate."""
    lines = [f"  {name}: {reason}" for name, reason in reasons_of([v for v in verdicts if v.reasons or v.left_out])]
    lines += [f"  {label}: {f.kind}, {f.message}" for label, f in known.failed.items()]
    return NoLegalBackend(
        "\n".join([f"no backend runs {spec.name} right here", *lines]),
        f"measure again with other versions: {demand.command('calibrate', spec.name)} --again",
    )

"""The screen of `check`: which rows are stale, could they change an answer, what measuring them costs."""

from collections.abc import Iterable, Sequence

from selector.screens.text import columns, plural, seconds
from selector.upkeep.outdated import StaleCandidate, StaleModel
from selector.upkeep.served import StaleServed


def table(found: Sequence[StaleModel], across: int | None = None) -> Iterable[str]:
    """A line for each stale candidate; nothing where none is stale."""
    rows = [("model", "candidate", "measure again", "could change an answer", "what changed")]
    for stale in found:
        for i, candidate in enumerate(stale.candidates):
            rows.append((
                _named(stale) if i == 0 else "",
                candidate.label,
                _cost(candidate),
                _effect(candidate),
                ", ".join(candidate.differences),
            ))  # fmt: skip
    return columns(rows, "<<>", across=across) if len(rows) > 1 else []


def loads(found: Sequence[StaleServed]) -> Iterable[str]:
    """A line for each candidate that took a load with other versions; nothing where none did."""
    rows = [("model", "load", "candidate", "could change an answer", "what changed")]
    for stale in found:
        for label, changes in stale.candidates.items():
            could = f"yes: {stale.command}" if label in stale.mattering else "no"
            rows.append((stale.model, stale.load.title, label, could, ", ".join(changes)))
    return columns(rows) if len(rows) > 1 else []


def loads_sentence(found: Sequence[StaleServed]) -> str:
    """What of the loads could change an answer, and what measuring it costs."""
    count = sum(len(stale.mattering) for stale in found)
    titles = ", ".join(dict.fromkeys(stale.load.title for stale in found))
    beside = " beside the picks of today" if any(stale.leaders for stale in found) else ""
    return (
        f"{plural(count, 'candidate')} measured under load with other versions could change an answer: {titles};"
        f" measuring them{beside} takes about {seconds(sum(stale.seconds for stale in found))}"
    )


def gone(found: Sequence[StaleModel], under_load: Sequence[StaleServed] = ()) -> list[str]:
    """A sentence for each model that cannot be measured, and for each trace whose requests are not known."""
    why = {_named(stale): (stale.model, stale.gone) for stale in found if stale.gone}
    why |= {stale.model: (stale.model, stale.gone) for stale in under_load if stale.gone}
    lines = [f"{name} cannot be measured: {told}. Forget it: {_prune(model)}" for name, (model, told) in why.items()]
    return lines + [
        f"the requests of {stale.load.title} are not kept. Measure it again: {stale.command}"
        for stale in under_load
        if stale.mattering and not stale.kept
    ]


def sentence(found: Sequence[StaleModel]) -> str:
    """What is to be done, and what it costs."""
    mattering = [stale for stale in found if stale.mattering]
    count, could = (sum(map(len, c)) for c in ([s.candidates for s in found], [s.mattering for s in mattering]))
    if not count:
        return "nothing is stale"
    if not could:
        return f"{plural(count, 'candidate')} {'is' if count == 1 else 'are'} stale, and could not change an answer"
    conversions = sum(candidate.conversion_s > 0 for stale in mattering for candidate in stale.mattering)
    made = f", with {plural(conversions, 'conversion')}" if conversions else ""
    beside = " beside the picks of today" if any(stale.leaders for stale in mattering) else ""
    return (
        f"{could} of {plural(count, 'stale candidate')} could change an answer: measuring them{beside}"
        f" takes about {seconds(sum(stale.seconds for stale in mattering))}{made}"
    )


def _named(stale: StaleModel) -> str:
    """The model, with its layers where its rows are of its first layers."""
    cut, _, of = stale.identity.cut.partition("/")
    return f"{stale.model}, {cut} of {of} layers" if cut else stale.model


def _cost(candidate: StaleCandidate) -> str:
    if not candidate.matters:
        return "-"
    converts = f" + {seconds(candidate.conversion_s)} converting" if candidate.conversion_s else ""
    return f"{seconds(candidate.seconds)}{converts}"


def _effect(candidate: StaleCandidate) -> str:
    if candidate.barred:
        return f"no: cannot run, {candidate.barred}"
    if not candidate.matters:
        return "no: too slow by its times then"
    where = candidate.workloads
    if not where:
        return candidate.because
    shown = f"{where[0]} and {len(where) - 1} more" if len(where) > 1 else where[0]
    return f"{candidate.because} ({shown})"


def _prune(model: str) -> str:
    import shlex

    return shlex.join(["autobackend", "cache", "prune", "--model", model])

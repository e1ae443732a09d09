"""The choice among the backends that a program can run: LMDeploy its two engines, llama-server llama.cpp alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.errors import UsageError
from selector.answer import Selection
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.selection import choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """An answer that a program can run."""

    selection: Selection
    sentence: str = ""
    """That another backend is the best of all here, and which; empty where this one is, or where the user named it."""
    warning: str = ""
    """That nothing was measured of the backends among which the choice was made, and how to; empty where something was,
    or where the selection says so itself."""


def choose_among(
    model: str | Path,
    demand: Demand,
    backends: Sequence[str],
    *,
    program: str,
    cache: Cache | str | Path | None = None,
    host: HostSpec | None = None,
    strict: bool = False,
) -> Among:
    """The best of all backends where the program can run it, else the best of those that it can.

    Args:
        backends: those that the program can run; empty: all.
        program: its name, for sentences.

    Raises:
        UsageError: the demand names backends, and the program can run none of them.
        AutobackendError: as select.
    """
    if demand.backends and backends:
        named = tuple(label for label in demand.backends if label.partition(":")[0] in backends)
        if not named:
            raise UsageError(
                f"{program} runs {' and '.join(backends)}; found --backend {','.join(demand.backends)}",
                f"leave --backend out, or name one of these: {', '.join(backends)}",
            )
        return Among(selection=choose(model, replace(demand, backends=named), cache=cache, host=host, strict=strict))
    best = choose(model, demand, cache=cache, host=host, strict=strict)
    if not backends or best.backend in backends:
        return Among(selection=best)
    restricted = replace(demand, backends=tuple(backends))
    selection = choose(model, restricted, cache=cache, host=host, strict=strict)
    measured = {*(each.candidate for each in selection.ranking), *(each.candidate for each in selection.served)}
    known = selection.candidate in measured or selection.expected is not None
    return Among(
        selection=selection,
        sentence=f"{program} runs {' and '.join(backends)} alone: this is for {selection.candidate.label};"
        f" of all backends {best.candidate.label} is the choice here",
        warning="" if known else _untold(selection.model, restricted),
    )


def _untold(model: str, demand: Demand) -> str:
    measure = demand.command("calibrate", model)
    return (
        f"{model} was never measured with {' or '.join(demand.backends)} on this host; this is the static order."
        f" Measure it: {measure}"
    )

"""The words of `autobackend serve` for exactly what was chosen."""

from dataclasses import replace
from pathlib import Path

from calibration.load.load import Load
from selector.answer import Selection
from selector.demand.demand import Demand
from selector.emit.origin import served_name

KEY = "AUTOBACKEND_API_KEY"
"""The variable from which `serve` takes the key that requests must know; it needs one where others can reach it."""
ANYWHERE = "0.0.0.0"  # noqa: S104  a container's own address
STOP_S = 40
"""What a container gets to end: 30 s for the requests that run (serve --drain), and 10 s for the engine and the answers
on their way."""


def serve_words(selection: Selection, *, model: str, port: str, host: str = "") -> list[str]:
    """`autobackend serve MODEL --backends BACKEND:VARIANT ...`.

    Args:
        model: where the server finds it.
        host: where it listens; empty: at this machine's own address alone.
    """
    demand, use = replace(selection.demand, backends=(selection.candidate.label,), price_per_hour=None), selection.use
    traced = isinstance(use, Load) and bool(use.trace)
    if traced:  # its file is on this machine alone: the room that it needs is told instead
        demand = replace(demand, workloads=(), objective=Demand().objective, ttft_s=None, tpot_s=None)
    words = ["autobackend", "serve", model, *demand.options(), "--served-model-name", served_name(selection)]
    words += ["--context", str(selection.demand.largest.context_tokens)] if traced else []
    if selection.served or traced:  # where the server runs, nobody knows what was measured
        words += ["--slots", str(selection.slots)]
    if selection.served:
        words += ["--threads", str(selection.threads)]
    return [*words, *(["--host", host] if host else []), "--port", port]


def whole_path(selection: Selection) -> Path | None:
    """The folder or file of a model that lies on this machine; None for a hub id and for a shape."""
    spec = selection.spec
    here = not spec.name.startswith("shape:") and Path(spec.name).expanduser().exists()
    return spec.place.resolve() if here else None

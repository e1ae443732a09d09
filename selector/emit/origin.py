"""Where a configuration comes from, as the comment on top of it; and the names under which a model is served."""

import re
from pathlib import PurePath

from calibration.load.use import title_of
from selector.answer import Selection


def origin(selection: Selection, target: str) -> str:
    """`# openvino:fp16-pa for pp512:tg128:b1 (measured); autobackend select MODEL --emit compose`."""
    demand = selection.demand
    command = demand.command("select", selection.model)
    return f"# {selection.candidate.label} for {title_of(demand.use)} ({selection.source}); {command} --emit {target}\n"


def served_name(selection: Selection) -> str:
    """The last part of the model's name: `Qwen2.5-7B-Instruct` of a folder, a hub id or a .gguf file."""
    last = PurePath(selection.spec.name.removeprefix("shape:")).name
    return last.removesuffix(".gguf") or "model"


def dns_label(name: str) -> str:
    """A name as Kubernetes and Compose take it: lower-case letters, digits and dashes, 63 at most (RFC 1123)."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
    return label or "model"

"""LMDeploy: the command that starts its api_server with the chosen engine."""

from selector.answer import Selection
from selector.emit.target import Emitted, Target


def _write(selection: Selection) -> Emitted:
    notes = ["in Python: autobackend.pipeline(MODEL) is lmdeploy.pipeline(MODEL) with this choice"]
    if selection.backend == "turbomind":
        notes.append("where LMDeploy cannot load TurboMind it starts its PyTorch engine, and only logs that")
    return Emitted(text=selection.command() + "\n", notes=tuple(notes))


TARGET = Target(
    name="lmdeploy",
    program="LMDeploy",
    what="the command of its api_server",
    backends=("turbomind", "pytorch"),
    write=_write,
)

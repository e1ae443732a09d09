"""Decides which backends are legal for a model on a host, and which is fastest.

`select`, `explain` and `calibrate` are the Python API of autobackend; each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.load.load import Load
    from calibration.workload import Workload
    from selector.answer import Selection, SelectionWarning
    from selector.context import Context
    from selector.demand.demand import Demand, DemandOptions
    from selector.demand.objective import Objective
    from selector.explanation import Explanation, explain
    from selector.host.spec import HostSpec
    from selector.lmdeploy_pipeline import pipeline
    from selector.machines.what_if import what_if
    from selector.map.axes import Axes
    from selector.map.winner_map import WinnerMap
    from selector.map.winners import winners
    from selector.model.spec import ModelSpec
    from selector.planning.calibrate import calibrate
    from selector.planning.calibration import Calibration
    from selector.selection import select

__all__ = [
    "Axes",
    "Calibration",
    "Context",
    "Demand",
    "DemandOptions",
    "Explanation",
    "HostSpec",
    "Load",
    "ModelSpec",
    "Objective",
    "Selection",
    "SelectionWarning",
    "WinnerMap",
    "Workload",
    "calibrate",
    "explain",
    "pipeline",
    "select",
    "what_if",
    "winners",
]

_HOMES = {
    "Axes": "selector.map.axes",
    "Calibration": "selector.planning.calibration",
    "Context": "selector.context",
    "Demand": "selector.demand.demand",
    "DemandOptions": "selector.demand.demand",
    "Explanation": "selector.explanation",
    "HostSpec": "selector.host.spec",
    "Load": "calibration.load.load",
    "ModelSpec": "selector.model.spec",
    "Objective": "selector.demand.objective",
    "Selection": "selector.answer",
    "SelectionWarning": "selector.answer",
    "WinnerMap": "selector.map.winner_map",
    "Workload": "calibration.workload",
    "calibrate": "selector.planning.calibrate",
    "explain": "selector.explanation",
    "pipeline": "selector.lmdeploy_pipeline",
    "select": "selector.selection",
    "what_if": "selector.machines.what_if",
    "winners": "selector.map.winners",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for (PEP 562): `selector.cli host` needs no cache."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

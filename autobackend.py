"""autobackend's public names, and its command: `from autobackend import select`, `python -m autobackend`.

The code is in two packages beside this file, `selector` and `calibration`. They are imported when a name is first used.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.errors import (
        ArtifactError,
        AutobackendError,
        BackendError,
        CacheDriverMissing,
        CacheError,
        CacheRefused,
        CacheUnreachable,
        ClusterDiffers,
        ClusterUnreachable,
        DeviceBusy,
        FleetIncomplete,
        IllegalBackend,
        InstallError,
        ModelError,
        NoLegalBackend,
        NoNode,
        NotCalibrated,
        NothingMeasured,
        NotServed,
        Outdated,
        TargetsMissed,
        UsageError,
        Worse,
    )
    from selector import (
        Axes,
        Calibration,
        Context,
        Demand,
        DemandOptions,
        Explanation,
        HostSpec,
        Load,
        ModelSpec,
        Objective,
        Selection,
        SelectionWarning,
        WinnerMap,
        Workload,
        calibrate,
        explain,
        pipeline,
        select,
        what_if,
        winners,
    )

    __version__: str

__all__ = [
    "ArtifactError",
    "AutobackendError",
    "Axes",
    "BackendError",
    "CacheDriverMissing",
    "CacheError",
    "CacheRefused",
    "CacheUnreachable",
    "Calibration",
    "ClusterDiffers",
    "ClusterUnreachable",
    "Context",
    "Demand",
    "DemandOptions",
    "DeviceBusy",
    "Explanation",
    "FleetIncomplete",
    "ForeignPackage",
    "HostSpec",
    "IllegalBackend",
    "InstallError",
    "Load",
    "ModelError",
    "ModelSpec",
    "NoLegalBackend",
    "NoNode",
    "NotCalibrated",
    "NotServed",
    "NothingMeasured",
    "Objective",
    "Outdated",
    "Selection",
    "SelectionWarning",
    "TargetsMissed",
    "UsageError",
    "WinnerMap",
    "Workload",
    "Worse",
    "__version__",
    "calibrate",
    "explain",
    "main",
    "pipeline",
    "select",
    "what_if",
    "winners",
]

_HERE = Path(__file__).resolve().parent


class ForeignPackage(ImportError):
    """Another package than autobackend's own has the name `selector` or `calibration` and is found first."""


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _refuse_foreign_packages()
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("autobackend")
    else:
        home = "selector" if name in importlib.import_module("selector").__all__ else "calibration.errors"
        value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def main() -> None:
    """The `autobackend` command."""
    try:
        _refuse_foreign_packages()
    except ForeignPackage as error:
        sys.exit(f"error: {error}")
    from selector.cli import main as program

    program(prog_name="autobackend")


def _refuse_foreign_packages() -> None:
    """Raises ForeignPackage where the name of one of our packages leads to somebody else's."""
    for name in ("selector", "calibration"):
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
        if places and Path(places[0]).resolve() != _HERE / name:
            raise ForeignPackage(
                f"another package named {name!r} is found before autobackend's own: {places[0]}\n"
                "take it off PYTHONPATH and out of the working folder, uninstall it, or install autobackend into an"
                " environment of its own: python -m venv",
                name=name,
                path=places[0],
            )


if __name__ == "__main__":
    main()

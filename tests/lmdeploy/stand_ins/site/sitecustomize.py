"""Installs the stand-ins when `lmdeploy` is first imported, in an interpreter that conftest.lmdeploy_python made.

AUTOBACKEND_TEST_STANDINS says which: `torch` or `triton` (LMDeploy's PyTorch engine), `sm90` (TurboMind on that
device).
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path
from types import ModuleType


class _Standins(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `lmdeploy` once: imports it with the stand-ins in place and hands that module out."""

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "lmdeploy":
            return None
        sys.meta_path.remove(self)
        sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
        wanted = os.environ["AUTOBACKEND_TEST_STANDINS"]
        if wanted.startswith("sm"):
            importlib.import_module("tests.lmdeploy.stand_ins.turbomind_stubs").install(divmod(int(wanted[2:]), 10))
        else:
            importlib.import_module("tests.lmdeploy.stand_ins.lmdeploy_cpu").install(wanted)
        spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
        spec.submodule_search_locations = list(sys.modules[name].__path__)
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """It has run already."""


if os.environ.get("AUTOBACKEND_TEST_STANDINS"):
    sys.meta_path.insert(0, _Standins())

"""`autobackend` on a machine that has an A100 as far as it can tell; everything else is the command as it is."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import autobackend
from selector.host.spec import HostSpec
from tests.selector.conftest import A100

detect = HostSpec.detect


def detect_a_gpu() -> HostSpec:
    return replace(detect(), devices=(A100,))


HostSpec.detect = staticmethod(detect_a_gpu)  # type: ignore[assignment, method-assign]
autobackend.main()

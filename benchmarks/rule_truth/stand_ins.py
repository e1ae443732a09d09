"""LMDeploy's two engines without a GPU: the interpreters of its tests, whose stand-ins take the kernels' place.

The PyTorch engine then computes on the CPU, but for a few kernels that have no stand-in. TurboMind's library is the
real one, on a CUDA runtime whose kernels do nothing: what it refuses is known, its output is not.
"""

import dataclasses
import shlex
from pathlib import Path

from benchmarks.rule_truth.truth import Trial
from calibration.errors import UsageError
from selector.host.device import Device
from selector.host.spec import HostSpec, Installation

SITE = Path(__file__).resolve().parents[2] / "tests" / "lmdeploy" / "stand_ins" / "site"
KERNELS = {"pytorch": "torch", "turbomind": "sm80"}
"""Backend: which stand-ins of tests/lmdeploy/stand_ins/site run it."""
GPU = Device(kind="cuda", name="a GPU", memory_bytes=80 << 30, free_bytes=80 << 30, capability=(8, 0), driver="570.86")

_NO_STAND_IN = ("is not supported by default backend", "no CPU attention for")
"""Words of the PyTorch engine where a kernel has no stand-in: lmdeploy pytorch/backends/default/op_backend.py:93, and
tests/lmdeploy/stand_ins/lmdeploy_cpu.py."""


def is_the_engines_own(trial: Trial) -> bool:
    """Whether what a trial showed would also happen on a GPU, and does not come from what stands in for one."""
    match trial.candidate.partition(":")[0]:
        case "turbomind":  # what it computes means nothing, and neither does how long it takes
            return trial.verdict in {"refused", "crashed"}
        case "pytorch":
            return not any(words in trial.message for words in _NO_STAND_IN)
    return True


def gpu_host(here: HostSpec, lmdeploy: Path, folder: Path) -> HostSpec:
    """This machine with a GPU that is not there, and LMDeploy in interpreters with stand-ins.

    Args:
        lmdeploy: the interpreter of the environment of LMDeploy's tests.
        folder: where the two interpreters are made.

    Raises:
        UsageError: the environment is not there.
    """
    if not lmdeploy.exists():
        raise UsageError(f"there is no {lmdeploy}", "make .venv-lmdeploy/installed")
    installed = {
        backend: Installation.detect(_interpreter(lmdeploy, kernels, folder / f"python-{kernels}"))
        for backend, kernels in KERNELS.items()
    }
    return dataclasses.replace(here, devices=(GPU,), installations={**here.installations, **installed})


def _interpreter(real: Path, kernels: str, folder: Path) -> Path:
    """An interpreter that looks like one of an environment of its own, with the packages of the real one."""
    python = folder / "bin" / "python"
    if not python.exists():
        python.parent.mkdir(parents=True)
        (folder / "lib").symlink_to(real.parent.parent.resolve() / "lib")
        (folder / "pyvenv.cfg").write_text((real.parent.parent / "pyvenv.cfg").read_text(encoding="utf-8"))
        python.write_text(
            "#!/bin/sh\n"
            f"export AUTOBACKEND_TEST_STANDINS={kernels}\n"
            f"export PYTHONPATH={shlex.quote(str(SITE))}\n"
            # One try of each of TurboMind's kernels: its tuner's times mean nothing here.
            "export TM_GEMM_TUNE=max_splits=1,max_waves=1,min_iter=1,max_iter=1,top_k=1\n"
            f'exec {shlex.quote(str(real.absolute()))} -W ignore "$@"\n',
            encoding="utf-8",
        )
        python.chmod(0o755)
    return python

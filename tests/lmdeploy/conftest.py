"""LMDeploy's engines without a GPU: checkpoints, interpreters with the stand-ins, and hosts that claim a GPU.

These tests run in an environment of their own: `.venv-lmdeploy/bin/python -m pytest tests/lmdeploy`.
"""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selector.host.spec import Device, HostSpec, Installation
from tests.lmdeploy import tiny_checkpoints

SITE = Path(__file__).resolve().parent / "stand_ins" / "site"

Checkpoints = Callable[..., Path]
Pythons = Callable[..., Path]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """checkpoint(kind, dtype=..., quant=..., **shape) -> folder of a tiny random model, made once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def make(kind: str, *, dtype: str = "bfloat16", quant: str = "", **shape: Any) -> Path:
        own = "-".join(f"{k}={v}" for k, v in sorted(shape.items()))
        name = "-".join(filter(None, (kind, dtype, quant, f"{hash(own) & 0xFFFFFFFF:08x}" if own else "")))
        return tiny_checkpoints.make(root / name, kind, dtype=dtype, quant=quant, **shape)

    return make


@pytest.fixture
def lmdeploy_python(tmp_path: Path) -> Pythons:
    """lmdeploy_python(kernels) -> an interpreter in which LMDeploy runs without a GPU.

    `kernels` is `torch` or `triton` (the PyTorch engine), a compute capability (TurboMind on stub libraries), or None:
    as it is on this host. It looks like an environment of its own (bin, lib, pyvenv.cfg), with this one's packages.
    """

    def make(kernels: str | tuple[int, int] | None = "torch") -> Path:
        word = kernels if isinstance(kernels, str) else "" if kernels is None else f"sm{kernels[0]}{kernels[1]}"
        folder = tmp_path / f"python-{word or 'plain'}"
        (folder / "bin").mkdir(parents=True)
        real = Path(sys.prefix)
        (folder / "lib").symlink_to(real / "lib")
        (folder / "pyvenv.cfg").write_text((real / "pyvenv.cfg").read_text())
        python = folder / "bin" / "python"
        python.write_text(
            "#!/bin/sh\n"
            f"export AUTOBACKEND_TEST_STANDINS={word}\n"
            f"export PYTHONPATH={shlex.quote(str(SITE))}\n"
            # One try of each of TurboMind's kernels: its tuner's times mean nothing here.
            "export TM_GEMM_TUNE=max_splits=1,max_waves=1,min_iter=1,max_iter=1,top_k=1\n"
            f'exec {shlex.quote(sys.executable)} -W ignore "$@"\n'
        )
        python.chmod(0o755)
        return python

    return make


@pytest.fixture(scope="session")
def gpu_host() -> Callable[..., HostSpec]:
    """gpu_host(capability, python): see one_gpu."""
    return one_gpu


def one_gpu(capability: tuple[int, int], python: Path = Path(sys.executable), count: int = 1) -> HostSpec:
    """A host with one GPU of 80 GiB, or several, and LMDeploy in that interpreter."""
    installation = Installation.detect(python)
    return HostSpec(
        identifier="0" * 12,
        cpu_name="x86_64",
        cpu_model="a CPU",
        cpu_features=frozenset(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=64 << 30,
        devices=(
            Device(
                kind="cuda",
                name="a GPU",
                memory_bytes=80 << 30,
                free_bytes=80 << 30,
                capability=capability,
                driver="570.86",
            ),
        )
        * count,
        installations={"turbomind": installation, "pytorch": installation},
    )

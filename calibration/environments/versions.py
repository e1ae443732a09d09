"""The versions that make two measurements comparable."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from calibration.environments.distributions import requirement_name
from calibration.environments.packages import python_version

POLICY = "2"
"""Version of the way we measure, stored with each row. Raise it when new times are not comparable with earlier ones."""

SPEED_LIBRARIES = frozenset({
    "autoawq-kernels", "bitsandbytes", "causal-conv1d", "compressed-tensors", "deep-ep", "deep-gemm", "dlinfer-ascend",
    "fla-core", "flash-attn", "flash-attn-3", "flash-linear-attention", "flash-mla", "flashinfer-python", "gptqmodel",
    "intel-extension-for-pytorch", "intel-openmp", "kernels", "mamba-ssm", "mkl", "nvidia-cublas", "nvidia-cublas-cu12",
    "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu13", "pytorch-triton-rocm", "tilelang",
    "torch-npu", "triton", "xformers",
})  # fmt: skip
"""Distributions that an engine does not need, but that change its speed where they are installed."""


class Packaged(Protocol):
    """What `comparable_versions` reads of a backend's facts (calibration.backend.Facts)."""

    @property
    def package(self) -> str: ...

    @property
    def requires(self) -> tuple[str, ...]: ...


def comparable_versions(
    facts: Packaged,
    versions: Mapping[str, str],
    *,
    driver: str | None,
    threads: int,
    python: Path | None = None,
    bound: int = 0,
) -> dict[str, str]:
    """Names and versions that must be equal for two measurements of a backend to be comparable.

    Args:
        facts: of the backend.
        versions: normalised name and version of what is installed where the backend runs (`packages.installed`).
        driver: the device's driver; None for a CPU, which has none.
        threads: how many threads the engine uses.
        python: the interpreter that runs the backend; None: our own.
        bound: how many cores the worker is bound to; 0 where it is not bound.
    """
    names = (
        {requirement_name(r) for r in (facts.package, *facts.requires)} | {"torch", "transformers"} | SPEED_LIBRARIES
    )
    comparable = {name: versions[name] for name in sorted(names) if name in versions}
    comparable["python"] = python_version(python or Path(sys.executable))
    if driver:
        comparable["driver"] = driver
    comparable["threads"] = str(threads)
    if bound:
        comparable["affinity"] = "1 core" if bound == 1 else f"{bound} cores"
    return comparable


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What changed between two sets of versions, sorted by name.

    >>> differences({'torch': '2.13.0', 'ctranslate2': '4.8.4'}, {'torch': '2.13.0', 'ctranslate2': '4.8.5'})
    ['ctranslate2 4.8.4 -> 4.8.5']
    """
    return [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]

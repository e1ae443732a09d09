"""Traits: a host, a model and a candidate as numbers that their times may depend on."""

import math
from collections.abc import Mapping
from functools import lru_cache

from calibration.registry import all_backends
from selector.predict.known.timing import Host
from selector.predict.known.work import Work

_FEATURES = ("avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "avx512_fp16")
"""Instructions that x86 engines choose their kernels by, and that differ between processors of today."""


def host_traits(host: Host) -> tuple[float, ...]:
    """Instructions, maker and the logarithm of the cores."""
    intel = 1.0 if "intel" in host.device.lower() else 0.0
    return (*(float(name in host.cpu_features) for name in _FEATURES), intel)


def family(host: Host) -> tuple[str, str]:
    """Hosts of another family say nothing of this one: the kind of its device, and of a CPU its instruction set."""
    arm = host.kind == "cpu" and bool({"neon", "sve"} & host.cpu_features)
    return host.kind, "arm" if arm else ""


def work_traits(work: Work) -> tuple[float, ...]:
    """How small its layers are, the output embedding's share and its size: what moves times per parameter.

    An engine has a cost for each layer whatever its size, which a layer of 5 M parameters takes as long as to read; so
    a model's first layers differ from the whole in the other two alone.
    """
    each = work.body_parameters / work.layers
    return (
        3.0 * (1.0 / (1.0 + each / 5.0e6) - 0.35),
        2.0 * (work.head_parameters / work.read_parameters) - 0.6,
        0.5 * math.log(work.read_parameters / 2.0e8),
    )


def mixture(work: Work) -> float:
    """1 for a mixture of experts: engines differ in how they compute one far more than in anything else."""
    return 1.0 if work.experts else 0.0


def precision(label: str, work: Work) -> str:
    """What the candidate computes the model's weights in: fp32, 16 bits, int8, int4."""
    named = _precisions().get(label, "model")
    if named == "model":
        named = {"float32": "fp32"}.get(work.dtype, work.dtype)
    return {"fp16": "16", "float16": "16", "bf16": "16", "bfloat16": "16", "int16": "int8"}.get(named, named)


@lru_cache(1)
def _precisions() -> Mapping[str, str]:
    return {f"{name}:{v.name}": v.precision for name, backend in all_backends().items() for v in backend.variants}

"""The floor of a decode step: what it must read, at all that the device's memory gives."""

from calibration.measurement import Candidate
from calibration.workload import Workload
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.predict.limits.roofline import needs_of

_MORE_THAN_CACHES_HOLD = 2 << 30
"""Bytes. What comes out of a cache may come faster; the largest of today's sockets, AMD's EPYC 9684X, has 1.1 GiB."""


def least_tpot_s(
    spec: ModelSpec, host: HostSpec, candidate: Candidate, workload: Workload, *, devices: int = 1
) -> float | None:
    """Seconds for each output token that no engine can beat with the candidate's weights, on a machine not held here.

    None where its bandwidth or what a step reads is not known, or where caches may hold that.

    Args:
        devices: that run the model together.
    """
    bandwidth = host.what_if.bandwidth_gbs if host.what_if else None
    if not bandwidth or workload.output_tokens < 2:
        return None
    needs = needs_of(spec, host, candidate, workload, devices=devices)
    if needs is None or needs.step_bytes < _MORE_THAN_CACHES_HOLD:
        return None
    return needs.step_bytes / (bandwidth * 1e9)

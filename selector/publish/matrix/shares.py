"""Which share of its machine's limits a measurement reaches, where the machine was probed."""

from collections.abc import Mapping

from calibration.measurement import Measurement
from selector.predict.limits.roofline import Shares, shares_of
from selector.publish.hosts.host_file import HostResults
from selector.screens.text import share


def shares_in(host: HostResults, model: str, measurement: Measurement) -> dict[str, Shares]:
    """Of each cell of a measurement, by its label; none where the machine was not probed."""
    if host.probe is None:
        return {}
    needs = host.needs.get(model, {}).get(measurement.identity.cut, {}).get(measurement.candidate.label, {})
    return {
        cell.workload.label: shares_of(needs[cell.workload.label], cell.ttft_s, cell.tpot_s, host.probe)
        for cell in measurement.cells
        if cell.workload.label in needs
    }


def of_memory(shares: Mapping[str, Shares], cell: str) -> str:
    """`78 %` of the memory bandwidth, in decode; `(cache)` where what a step reads fits into the last-level cache."""
    reached = shares.get(cell)
    if reached is None or reached.bandwidth is None:
        return "-"
    return f"{share(reached.bandwidth)}{' (cache)' if reached.cached else ''}"


def of_products(shares: Mapping[str, Shares], cell: str) -> str:
    """`41 % of int8`: of the matrix rate of what it multiplies in, in prefill."""
    reached = shares.get(cell)
    return "-" if reached is None or reached.rate is None else f"{share(reached.rate)} of {reached.dtype}"

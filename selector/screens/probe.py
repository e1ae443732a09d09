"""What a machine's probe reached, in a line."""

from calibration.probing.probe import Probe
from selector.screens.text import age, figure, size


def limits(probe: Probe, *, now: float | None = None, cached: bool = False) -> str:
    """What the shares of a ranking are shares of.

    Args:
        cached: what some candidate reads for a step fits into the cache.
    """
    text = (
        f"{reaches(probe)} (probed {age(probe.taken_at, now)}): the shares of memory in decode, of products in prefill"
    )
    return f"{text}; less than {size(probe.cache_bytes)} a step may come out of the cache, faster" if cached else text


def reaches(probe: Probe) -> str:
    """`reads 49.8 GB/s; multiplies 480 GFLOP/s in float32, 1,833 in int8`."""
    rates = [
        f"{figure(reached.all)}{'' if i else ' GFLOP/s'} in {dtype}"
        for i, (dtype, reached) in enumerate(probe.rates.items())
    ]
    multiplies = f"; multiplies {', '.join(rates)}" if rates else ""
    return f"reads {figure(probe.bandwidth_gbs.all)} GB/s{multiplies}"

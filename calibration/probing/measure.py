"""Measures one part of a machine for about a given time: the memory, or the products of matrices of one dtype."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

from calibration.probing.kernels import Kernels, Library, Numpy, Torch, Unsupported

MEMORY = "memory"
REPEATS_LEAST = 3
LONG_CALL_S = 0.1
"""Matrices grow until a product takes about this long: a longer one is no faster."""
N_LEAST, N_MOST = 512, 8192
"""Rows of the matrices. At 8192 a product has 10^12 operations, which keep any GPU of today busy for a millisecond."""
HOPELESS = 2.0
"""A way that took so many times as long as the fastest, when each was timed once, is not repeated."""


def opened(library: str, device: str, cpus: Sequence[int]) -> Library:
    """The library that measures, imported after this process was bound to the cores.

    Args:
        library: `torch` or `numpy`.
        device: `cpu` or `cuda`.
        cpus: empty: it is not bound.
    """
    if cpus:
        os.sched_setaffinity(0, cpus)
    opened: Library = Torch(device) if library == "torch" else Numpy()
    opened.versions["python"] = platform.python_version()
    return opened


def measure(library: Library, part: str, *, threads: int, size: int, seconds: float) -> dict[str, Any]:
    """All repeats of the fastest way, in 10^9 bytes or operations a second.

    Args:
        part: MEMORY or a dtype.
        size: bytes of memory to read.
        seconds: that it may take, roughly.

    Returns:
        `samples` and `way`; or `missing`, why there are none.
    """
    library.use(threads)
    try:
        if part == MEMORY:
            way, times = fastest(library.reading(size), seconds)
            return _reached(way, times, size)
        return _products(library, part, threads, seconds)
    except Unsupported as reason:
        return {"missing": str(reason)}


def fastest(kernels: Kernels, seconds: float) -> tuple[str, list[float]]:
    """The way with the fastest call, and what each of its calls took.

    Raises:
        Unsupported: no way works.
    """
    ends = time.perf_counter() + seconds
    times = {name: [_timed(call)] for name, call in _working(kernels).items()}
    least = min(first for (first,) in times.values())
    hopeful = [name for name, (first,) in times.items() if first <= HOPELESS * least]
    while len(times[hopeful[0]]) < REPEATS_LEAST or time.perf_counter() < ends:
        for name in hopeful:
            times[name].append(_timed(kernels[name]))
    best = min(hopeful, key=lambda name: min(times[name]))
    return best, times[best]


def _working(kernels: Kernels) -> dict[str, Callable[[], Any]]:
    """Those that can be called, which a call shows; it also touches the pages and starts the threads."""
    working, reason = {}, ""
    for name, call in kernels.items():
        try:
            call()
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
        else:
            working[name] = call
    if not working:
        raise Unsupported(reason)
    return working


def _products(library: Library, dtype: str, threads: int, seconds: float) -> dict[str, Any]:
    """Of the sizes up to the one whose product takes LONG_CALL_S, the fastest."""
    ends = time.perf_counter() + seconds
    n, best = N_LEAST, dict[str, Any]()
    while True:
        way, times = fastest(library.product(dtype, n), seconds / 4)
        products = threads if "(numpy)" in way else 1  # with numpy, each thread has one of its own
        reached = _reached(f"{way}, {n} x {n}", times, 2 * n**3 * products)
        if not best or max(reached["samples"]) > max(best["samples"]):
            best = reached
        # Twice the rows take eight times as long.
        if 4 * min(times) > LONG_CALL_S or n >= N_MOST or time.perf_counter() > ends:
            return best
        n *= 2


def _reached(way: str, times: Sequence[float], work: float) -> dict[str, Any]:
    return {"way": way, "samples": [work / seconds / 1e9 for seconds in times]}


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began

"""What reads memory and what multiplies matrices, by torch or by numpy: several ways each, of which the fastest counts.

One way alone would be a poor limit of the machine. On two cores of an EPYC with Zen 5 (AVX-512), torch 2.13: its `mv`
read 24 GB/s and its `sum` of int64 50; on one core its `mm` in float32, which is MKL's, reached 109 GFLOP/s, and
oneDNN's 242; `_int_mm` 600, and 1014 with the second matrix transposed.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

Kernels = Mapping[str, Callable[[], Any]]
"""Name of a way: a call of it, which returns when the work is done."""

DTYPES = ("float32", "bfloat16", "float16", "int8")

NOISE_ROWS = 64
"""Matrices repeat so many rows of random numbers: random, since GPUs multiply constants faster than they multiply
weights (they take less power); repeated, since drawing all of them takes longer than a product."""


class Unsupported(Exception):
    """The library cannot do this here; the message says why."""


class Library(Protocol):
    """A library with the device that it computes on."""

    versions: dict[str, str]
    cache_bytes: int
    """The device's last cache, where the library tells it; else 0."""

    def use(self, threads: int) -> None:
        """Compute with so many threads from now on."""

    def reading(self, size: int) -> Kernels:
        """Ways to read `size` bytes of memory; they share one array, which is made here and kept."""

    def product(self, dtype: str, n: int) -> Kernels:
        """Ways to multiply two n x n matrices; with numpy, one pair in each thread.

        Raises:
            Unsupported: of this dtype.
        """


class Numpy:
    """numpy on the CPU. A thread of Python's for each core: its functions let others run, and BLAS has one thread."""

    def __init__(self) -> None:
        import numpy as np

        self.numpy: Any = np
        self.versions = {"numpy": np.__version__}
        self.cache_bytes = 0
        self._array: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 1

    def use(self, threads: int) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool, self._threads = ThreadPoolExecutor(threads), threads

    def reading(self, size: int) -> Kernels:
        if self._array is None or self._array.nbytes != size:
            self._array = None  # before the next one is made
            # Ones: pages that were never written are all the same page of zeros.
            self._array = self.numpy.ones(size // 4, dtype=self.numpy.float32)
        parts = self.numpy.array_split(self._array, self._threads)
        return {
            "dot (numpy)": self._side_by_side([partial(part.dot, part) for part in parts]),
            "max (numpy)": self._side_by_side([part.max for part in parts]),
        }

    def product(self, dtype: str, n: int) -> Kernels:
        if dtype != "float32":
            raise Unsupported("numpy multiplies float32 alone at the CPU's speed; torch is not there")
        noise = self.numpy.random.default_rng(0).standard_normal((NOISE_ROWS, n), dtype=self.numpy.float32)
        matrix = self.numpy.tile(noise, (n // NOISE_ROWS, 1))
        return {"matmul (numpy)": self._side_by_side([lambda: matrix @ matrix] * self._threads)}

    def _side_by_side(self, calls: Sequence[Callable[[], Any]]) -> Callable[[], None]:
        """All calls at once, each in a thread; over when the last is."""
        pool = self._pool
        assert pool is not None

        def call_all() -> None:
            for running in [pool.submit(call) for call in calls]:
                running.result()

        return call_all


class Torch:
    """torch on the CPU, or on the first accelerator that it calls `cuda` (NVIDIA's, AMD's).

    Args:
        device: `cpu` or `cuda`.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.torch: Any = torch
        self.versions = {"torch": str(torch.__version__)}
        self.cache_bytes = 0
        self._device = torch.device(device)
        self._array: Any = None
        self._numpy = self._beside()
        if device == "cuda":
            # Raises where torch finds no such device.
            self.cache_bytes = int(getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0))

    def use(self, threads: int) -> None:
        self.torch.set_num_threads(threads)
        if self._numpy is not None:
            self._numpy.use(threads)

    def reading(self, size: int) -> Kernels:
        torch = self.torch
        if self._array is None or self._array.nbytes != size:
            self._array = None  # before the next one is made
            self._array = self._ones(size // 4)
        floats, integers = self._array, self._array.view(torch.int64)
        halves = floats.chunk(2)
        ways = {
            "sum (torch)": floats.sum,
            "int64 sum (torch)": integers.sum,
            "dot of halves (torch)": lambda: torch.dot(*halves),
        }
        return self._waited(ways)

    def product(self, dtype: str, n: int) -> Kernels:
        torch = self.torch
        matrix = torch.randn((NOISE_ROWS, n), device=self._device).repeat(n // NOISE_ROWS, 1)
        ways: dict[str, Callable[[], Any]]
        if dtype == "int8":
            matrix = (matrix * 30).clamp(-127, 127).to(torch.int8)
            ways = {
                "_int_mm (torch)": lambda: torch._int_mm(matrix, matrix),  # noqa: SLF001  it has no public name
                "_int_mm, transposed (torch)": lambda: torch._int_mm(matrix, matrix.t()),  # noqa: SLF001
            }
        else:
            matrix = matrix.to(getattr(torch, dtype))
            ways = {
                "mm (torch)": lambda: torch.mm(matrix, matrix),
                "linear (torch)": lambda: torch.nn.functional.linear(matrix, matrix),
            }
        if dtype != "float32" or self._device.type != "cpu":
            return self._waited(ways)
        beside = self._numpy.product(dtype, n) if self._numpy is not None else {}
        return {**ways, **self._onednn(matrix), **beside}

    def _ones(self, count: int) -> Any:
        """Float32 numbers in huge pages where numpy is there: it asks the kernel for them, and torch does not.

        Of huge pages one core of an EPYC with Zen 5 read 45 GB in a second of its time, of others 41.
        """
        if self._numpy is None:
            return self.torch.ones(count, dtype=self.torch.float32, device=self._device)
        return self.torch.from_numpy(self._numpy.numpy.ones(count, dtype=self._numpy.numpy.float32))

    def _onednn(self, matrix: Any) -> Kernels:
        """oneDNN's own product in float32; torch takes MKL's, which uses no AVX-512 on processors of AMD."""
        if not self.torch.backends.mkldnn.is_available():
            return {}
        multiply, inside = self.torch._C._nn.mkldnn_linear, matrix.to_mkldnn()  # noqa: SLF001  no public name
        return {"mkldnn_linear (torch)": lambda: multiply(inside, matrix, None)}

    def _waited(self, calls: Kernels) -> Kernels:
        """Calls that return when the device has done the work."""
        if self._device.type == "cpu":
            return calls
        return {name: partial(self._wait_for, call) for name, call in calls.items()}

    def _wait_for(self, call: Callable[[], Any]) -> None:
        call()
        self.torch.cuda.synchronize()

    def _beside(self) -> Numpy | None:
        """numpy, where it is there and the CPU is what is probed."""
        if self._device.type != "cpu":
            return None
        try:
            beside = Numpy()
        except ImportError:
            return None
        self.versions |= beside.versions
        return beside

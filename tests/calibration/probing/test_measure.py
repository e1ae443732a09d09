"""What a part of the machine reaches: the fastest of the ways that work, with numpy and with torch."""

import time
from collections.abc import Callable, Iterator

import pytest

from calibration.probing.kernels import Library, Numpy, Torch, Unsupported
from calibration.probing.measure import MEMORY, REPEATS_LEAST, fastest, measure, opened

MIB = 1 << 20


def sleeping(seconds: float, calls: list[str], name: str) -> Callable[[], None]:
    def call() -> None:
        calls.append(name)
        time.sleep(seconds)

    return call


def refusing() -> None:
    raise RuntimeError("not implemented for 'Half'\n  at some line")


def test_the_fastest_way_counts_and_a_hopeless_one_is_not_repeated() -> None:
    calls: list[str] = []
    ways = {"slow": sleeping(0.05, calls, "slow"), "fast": sleeping(0.005, calls, "fast")}
    way, times = fastest(ways, 0.0)
    assert (way, len(times)) == ("fast", REPEATS_LEAST)
    assert min(times) >= 0.005
    assert calls.count("slow") == 2  # once unseen, once timed


def test_a_way_is_repeated_for_as_long_as_it_may_take() -> None:
    _, times = fastest({"only": sleeping(0.005, [], "only")}, 0.2)
    assert sum(times) > 0.1
    assert sum(times[:-1]) < 0.2


def test_a_way_that_does_not_work_is_left_out() -> None:
    assert fastest({"refused": refusing, "other": lambda: None}, 0.0)[0] == "other"


def test_where_no_way_works_the_first_line_of_the_reason_is_told() -> None:
    with pytest.raises(Unsupported, match=r"^not implemented for 'Half'$"):
        fastest({"refused": refusing}, 0.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_numpy_reads_memory_and_multiplies_float32(threads: int) -> None:
    library = Numpy()
    memory = measure(library, MEMORY, threads=threads, size=8 * MIB, seconds=0.05)
    assert memory["way"] in {"dot (numpy)", "max (numpy)"}
    product = measure(library, "float32", threads=threads, size=0, seconds=0.05)
    # A fast processor multiplies larger matrices in the time that it is given.
    assert product["way"] in {f"matmul (numpy), {n} x {n}" for n in (512, 1024, 2048)}
    # Any processor that runs numpy reads more than 0.1 GB a second and does more than 10^8 operations.
    assert min(*memory["samples"], *product["samples"]) > 0.1


def test_of_numpy_each_thread_multiplies_a_pair_of_its_own() -> None:
    """The operations of all of them count: two threads that take as long as one have done twice the work."""
    library = Numpy()
    library.use(2)
    multiplied: list[object] = []
    library._side_by_side([lambda: multiplied.append(1)] * 2)()
    assert multiplied == [1, 1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_numpy_says_that_torch_is_missing(dtype: str) -> None:
    reached = measure(Numpy(), dtype, threads=1, size=0, seconds=0.05)
    assert reached == {"missing": "numpy multiplies float32 alone at the CPU's speed; torch is not there"}


@pytest.fixture
def _own_threads() -> Iterator[None]:
    """Leaves torch in this process with as many threads as it had."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.engine
@pytest.mark.usefixtures("_own_threads")
@pytest.mark.parametrize("part", [MEMORY, "float32", "bfloat16", "int8"])
def test_torch_measures_every_part(part: str) -> None:
    library: Library = Torch("cpu")
    reached = measure(library, part, threads=1, size=8 * MIB, seconds=0.05)
    assert min(reached["samples"]) > 0.1, reached
    assert len(reached["samples"]) >= REPEATS_LEAST


@pytest.mark.engine
@pytest.mark.usefixtures("_own_threads")
def test_torch_says_why_a_dtype_has_no_product() -> None:
    """No torch multiplies truth values: they stand for a dtype that an older torch cannot multiply."""
    reached = measure(Torch("cpu"), "bool", threads=1, size=0, seconds=0.05)
    assert reached.keys() == {"missing"}
    assert "not implemented for 'Bool'" in reached["missing"]


def test_the_library_tells_its_versions() -> None:
    library = opened("numpy", "cpu", ())
    assert library.versions.keys() == {"numpy", "python"}

"""`select --why` shows what each candidate makes of the machine, where the machine was probed."""

from dataclasses import replace

from calibration.cache.cache import Cache
from calibration.measurement import Identity
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.screens.probe import limits
from selector.screens.select import why
from selector.selection import choose
from tests.calibration.probes import GIVEN, probed
from tests.selector.launches import DAY, cpu_host, model_and_host, other_size, rounds

MODEL = "shape:smollm2-135m"
SDPA, FP32 = "transformers:sdpa", "transformers:sdpa-fp32"
LATER = DAY + 86400


def lines(cache: Cache, host: HostSpec, **demand: object) -> list[str]:
    selection = choose(MODEL, cache=cache, host=host, **demand)  # type: ignore[arg-type]
    return why(selection, now=GIVEN.taken_at + 7200, probe=replace(GIVEN, host=host.identifier))


def measured(cache: Cache) -> tuple[ModelSpec, HostSpec, Identity]:
    spec, host, key = model_and_host(MODEL)
    cache.add(*rounds(SDPA, key, host, (1.0,)), *rounds(FP32, key, host, (2.0,)))
    return spec, host, key


def test_every_measured_row_says_what_it_reaches(cache: Cache) -> None:
    """135 M weights and the keys and values of 576 tokens are 282 MB in 16 bits, read in 22 ms: 12.8 of 40 GB/s.

    A prompt of 512 tokens is 118 GFLOP, in 1.03 s: 114 of 800 GFLOP/s. In 32 bits twice the bytes and a quarter of the
    rate, in twice the time.
    """
    _, host, _ = measured(cache)
    told = lines(cache, host)
    assert told[1].split("TPOT ")[1] == "22.0 ms  memory 32 %  bfloat16 14 %"
    assert told[2].split("TPOT ")[1] == "44.0 ms  memory 32 %   float32 29 %"
    assert " ".join(told[3].split()) == (
        "machine: reads 40.0 GB/s; multiplies 200 GFLOP/s in float32, 800 in bfloat16, 1,600 in int8"
        " (probed 2 hours ago): the shares of memory in decode, of products in prefill"
    )


def test_without_a_probe_nothing_is_said_of_the_machine(cache: Cache) -> None:
    _, host, _ = measured(cache)
    told = why(choose(MODEL, cache=cache, host=host))
    assert "memory" not in told[1]
    assert not any("machine:" in line for line in told)


def test_times_of_another_model_or_host_reach_nothing_here(cache: Cache) -> None:
    _, host, key = model_and_host(MODEL)
    cache.add(*rounds(SDPA, other_size(key), host, (1.0,)))
    assert "predicted" in lines(cache, host)[0]
    assert not any("memory" in line for line in lines(cache, host))
    cache.add(*rounds(SDPA, key, host, (1.0,)))
    elsewhere = cpu_host("bbbbbbbbbbbb")
    assert "transferred" in lines(cache, elsewhere)[0]
    assert not any("memory" in line for line in lines(cache, elsewhere))


def test_a_forced_candidate_that_was_measured_says_it_too(cache: Cache) -> None:
    _, host, _ = measured(cache)
    told = lines(cache, host, backend=FP32)
    assert any(line.strip().startswith(FP32) and "float32 29 %" in line for line in told)


def test_a_workload_that_decodes_nothing_has_no_share_of_the_memory(cache: Cache) -> None:
    _, host, _ = measured(cache)
    assert "memory" not in lines(cache, host, workload="pp512:tg1:b1")[1]
    assert "bfloat16 14 %" in lines(cache, host, workload="pp512:tg1:b1")[1]


def test_what_fits_into_the_cache_is_explained() -> None:
    assert limits(probed(0), now=GIVEN.taken_at, cached=True).endswith(
        "; less than 32 MiB a step may come out of the cache, faster"
    )

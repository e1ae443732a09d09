"""Measurements of which small maps are drawn."""

from calibration.measurement import Measurement
from calibration.workload import Workload
from tests.selector.answering import CT2, EAGER, HOST, KEY, SDPA
from tests.selector.launches import rounds

CELLS = tuple(
    Workload(prompt_tokens=prompt, output_tokens=output, batch=batch)
    for prompt in (64, 1024)
    for output in (8, 256)
    for batch in (1, 4)
)


def two_regions() -> list[Measurement]:
    """SDPA decodes twice as fast as CT2, which is twice as fast in the prefill; EAGER is slow at both.

    A launch as slow as 1 takes 10 ms + 2 ms a prompt token and 20 ms + 2 ms a sequence for each later token.
    """
    return [
        *rounds(CT2, KEY, HOST, (0.5, 0.5, 0.5), decode=2.0, cells=CELLS),
        *rounds(SDPA, KEY, HOST, (1.0, 1.0, 1.0), cells=CELLS),
        *rounds(EAGER, KEY, HOST, (3.0, 3.0, 3.0), cells=CELLS),
    ]

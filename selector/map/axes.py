"""Axes of a map: prompt lengths, output lengths and batches, each in steps of a doubling or as they were listed."""

import re
from dataclasses import dataclass

from calibration.errors import UsageError
from calibration.workload import Workload

MOST_CELLS = 4000
"""More would neither be read nor be ready soon."""

_RANGE = re.compile(r"(\d{1,7}):(\d{1,7})")
_LIST = re.compile(r"\d{1,7}(,\d{1,7})*")

PROMPTS, OUTPUTS, BATCHES = "64:8192", "16:1024", "1,4,16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The values of a map's three directions, each rising."""

    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    batches: tuple[int, ...]

    @classmethod
    def parse(cls, prompts: str = PROMPTS, outputs: str = OUTPUTS, batches: str = BATCHES) -> "Axes":
        """Read a range (`64:8192`: 64, 128 ... 8192) or a list (`1,4,16`) for each.

        Raises:
            UsageError: a text is neither, or there are more than MOST_CELLS workloads.

        >>> Axes.parse("64:500", "32", "1,4")
        Axes(prompts=(64, 128, 256, 500), outputs=(32,), batches=(1, 4))
        """
        axes = cls(
            prompts=_values("--prompts", prompts),
            outputs=_values("--outputs", outputs),
            batches=_values("--batches", batches),
        )
        cells = len(axes.prompts) * len(axes.outputs) * len(axes.batches)
        if cells > MOST_CELLS:
            raise UsageError(f"needs a map of at most {MOST_CELLS} workloads; found {cells}", "shorten a list")
        return axes

    def at(self, prompt: int, output: int, batch: int) -> Workload:
        """The workload at these places of the axes."""
        return Workload(
            prompt_tokens=self.prompts[prompt], output_tokens=self.outputs[output], batch=self.batches[batch]
        )


def _values(option: str, text: str) -> tuple[int, ...]:
    found = _RANGE.fullmatch(text)
    if found:
        low, high = int(found[1]), int(found[2])
        doubled = [low << step for step in range(high.bit_length()) if low << step < high]
        values = [*doubled, high] if low <= high else []
    else:
        values = sorted({int(word) for word in text.split(",")}) if _LIST.fullmatch(text) else []
    if not values or values[0] < 1:
        raise UsageError(f"unknown {option} {text!r}", "write a range like 64:8192 or a list like 1,4,16")
    return tuple(values)

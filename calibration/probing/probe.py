"""Probe: what a machine's memory and its arithmetic reach by themselves, without any engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from calibration.codec import LEAST, to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """All repeats of the fastest way: billions of bytes, or of operations, a second.

    The best repeat counts, since whatever disturbs a repeat makes it slower; the spread says how steady they were.
    """

    samples: tuple[float, ...] = field(metadata={LEAST: 1})
    """With all usable cores, or on the accelerator."""
    samples_of_one_core: tuple[float, ...] = ()
    """Empty where an accelerator runs the models."""
    way: str = ""
    """What was fastest with all cores: `int64 sum (torch)`."""

    @property
    def all(self) -> float:
        """The best with all usable cores, or of the accelerator; all can do at least what one can."""
        return max(*self.samples, *self.samples_of_one_core, 0.0)

    @property
    def one(self) -> float | None:
        """The best with one core; None where an accelerator runs the models."""
        return max(self.samples_of_one_core, default=None)

    @property
    def spread(self) -> float:
        """How far the median of the repeats with all cores lies below the best of them, as a share of it."""
        return 1.0 - median(self.samples) / max(self.samples) if max(self.samples) else 0.0

    def to_json(self) -> dict[str, Any]:
        """As `autobackend host --json` prints it."""
        return {"all_cores": self.all, "one_core": self.one, "spread": self.spread, **to_plain(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The device that runs models on one host, as it was probed once."""

    probe_id: str
    """Unique (uuid4 hex), so that a merge of two caches is a union."""
    host: str
    """Identifier of the machine."""
    device: str
    """Name of the device that was probed."""
    taken_at: float
    """Unix time."""
    seconds: float
    """What the probe took."""
    bandwidth_gbs: Reached
    """Reading memory far beyond the last cache, as decoding reads weights: 10^9 bytes a second."""
    rates: Mapping[str, Reached]
    """By dtype (float32, bfloat16, float16, int8): products of matrices, 10^9 operations a second; a multiplication and
    an addition are two."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Dtype: why it has no rate."""
    cache_bytes: int = 0
    """The last-level cache that one core sees; 0 where it is not known. What fits there is read faster than memory."""
    disturbed: tuple[str, ...] = ()
    """Parts (`memory`, a dtype) during which other programs used the CPU, also when they were measured again."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of what was used: python, torch, numpy."""
    policy: str = "1"
    """Version of the way of probing."""

    def to_json(self) -> dict[str, Any]:
        """As `autobackend host --json` prints it: what is kept, with the best and the spread of each part."""
        rates = {dtype: reached.to_json() for dtype, reached in self.rates.items()}
        return {**to_plain(self), "bandwidth_gbs": self.bandwidth_gbs.to_json(), "rates": rates}

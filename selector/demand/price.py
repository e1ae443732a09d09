"""Price: what a million tokens cost on a machine that has a price per hour."""

from dataclasses import dataclass

from calibration.workload import Workload

_MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of a million tokens, in the currency of the price, on a machine that does nothing but this workload."""

    output: float
    """Of a million new tokens; those of the prompts are paid with them."""
    total: float
    """Of a million tokens, prompts and new ones alike."""

    @classmethod
    def of(cls, workload: Workload, e2e_s: float, price_per_hour: float) -> "Costs":
        """The price of the seconds that the workload takes, over its tokens."""
        call = price_per_hour * e2e_s / 3600.0
        return cls(
            output=_MILLION * call / (workload.batch * workload.output_tokens),
            total=_MILLION * call / (workload.batch * workload.context_tokens),
        )

"""Combination: one variant of one backend, before one model, host and demand: what a rule looks at."""

from collections.abc import Iterable
from dataclasses import dataclass

from calibration.backend import Backend, Facts, Variant
from selector.demand.demand import Demand
from selector.host.spec import Device, HostSpec, Installation
from selector.model.spec import ModelSpec

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Variant.precision: the dtype it computes in; `model` is the checkpoint's, int8 and int4 are none of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """What a rule looks at."""

    model: ModelSpec
    host: HostSpec
    installation: Installation
    backend: Backend
    variant: Variant
    demand: Demand
    device: Device
    served: bool = False
    """The workload's sequences are requests to a server, which come and go; else they are a batch in step."""
    checked: bool = False
    """Its output is checked in the same launch, as in a calibration."""

    @property
    def facts(self) -> Facts:
        return self.backend.facts.on(self.device.kind)

    @property
    def architecture_names(self) -> tuple[str, ...]:
        """The names in config.json by which the engine looks for the model's architecture; any of them is enough."""
        model = self.model
        if not self.facts.architectures_from_auto_map:
            return (model.architecture,)
        return (model.auto_architecture,) if model.auto_architecture else model.architectures

    @property
    def on_its_device(self) -> bool:
        """The backend runs on devices of this kind at all, so that their details matter."""
        return self.device.kind in self.facts.devices

    @property
    def dtype(self) -> str | None:
        """What the variant computes in; None where that is no floating-point type of the rules (int8, int4)."""
        precision = self.variant.precision
        if self.variant.dtype:
            return self.variant.dtype
        return self.model.dtype if precision == "model" else DTYPES.get(precision)


def any_of(things: Iterable[object]) -> str:
    """The choices of a sentence.

    >>> any_of([64, 128, 256])
    '64, 128 or 256'
    """
    words = [str(t) for t in things]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def dotted(capability: tuple[int, int]) -> str:
    """A compute capability as NVIDIA writes it.

    >>> dotted((8, 9))
    '8.9'
    """
    return f"{capability[0]}.{capability[1]}"

"""What a host did not launch, and why: each reason once, with the variants and the models that it holds for."""

from collections.abc import Sequence
from dataclasses import dataclass

from selector.publish.matrix.matrix import Row, State


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLaunched:
    """Variants that were not launched, and one reason why."""

    variants: str
    """`openvino:int8,int4`, or the backend's name for all its variants."""
    reason: str
    models: tuple[str, ...]

    @property
    def backend(self) -> str:
        return self.variants.partition(":")[0]


def not_launched_of(row: Row) -> list[NotLaunched]:
    """What was refused, left out or not tested of a model, in the static order."""
    variants: dict[tuple[str, str], list[str]] = {}
    for square in row.squares:
        if square.state not in {State.MEASURED, State.FAILED}:
            for reason in square.reasons or (str(square.state),):
                variants.setdefault((square.backend, reason), []).append(square.variant)
    return [
        NotLaunched(
            variants=backend if len(names) == len(row.of_backend(backend)) > 1 else f"{backend}:{','.join(names)}",
            reason=reason,
            models=(row.model,),
        )
        for (backend, reason), names in variants.items()
    ]


def not_launched_on(rows: Sequence[Row]) -> list[NotLaunched]:
    """What was refused, left out or not tested on a host, in the static order; what holds for most models first."""
    models: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for group in not_launched_of(row):
            models.setdefault((group.variants, group.reason), {})[row.model] = None
    backends = list(dict.fromkeys(square.backend for row in rows for square in row.squares))
    groups = [
        NotLaunched(variants=variants, reason=reason, models=tuple(names))
        for (variants, reason), names in models.items()
    ]
    return sorted(groups, key=lambda group: (backends.index(group.backend), -len(group.models)))

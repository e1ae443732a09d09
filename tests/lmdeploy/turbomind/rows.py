"""A row of the table in which TurboMind's rules stand beside its library, and the shapes of its checkpoints."""

from dataclasses import dataclass, field
from typing import Any

from tests.lmdeploy.tiny_checkpoints import WIDE

SM70, SM75, SM80, SM90, SM100, SM120 = (7, 0), (7, 5), (8, 0), (9, 0), (10, 0), (12, 0)
USUAL = (SM75, SM80, SM90)
BF16 = "bfloat16"
ONE_LAYER = {**WIDE, "num_hidden_layers": 1}
MLA = {key: value for key, value in WIDE.items() if key not in ("head_dim", "moe_intermediate_size")}
LINEAR = {**WIDE, "head_dim": 256}
"""Two layers: one of linear attention, one of full."""
LINEAR16 = "needs bfloat16 for linear attention on compute capability {}; found {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A checkpoint on some devices, and why it is refused there."""

    name: str
    kind: str
    dtype: str = "float16"
    quant: str = ""
    shape: dict[str, Any] = field(default_factory=lambda: ONE_LAYER)
    on: tuple[tuple[int, int], ...] = USUAL
    ways: int = 1
    """GPUs that the model is divided among."""
    variant: str = "default"
    refused: str = ""
    """Our reason; empty: legal."""
    loads: str = ""
    """Not empty: the library takes what we refuse, and this is what is wrong with it."""


def shape(**changes: Any) -> dict[str, Any]:
    return {**ONE_LAYER, **changes}

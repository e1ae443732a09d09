"""Rung: how many of a model's layers are launched; the whole model is the last rung of a ladder."""

import re
from dataclasses import dataclass

_CUT = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Rung:
    """The first `layers` of a model of `of` layers, at its own widths and vocabulary.

    Raises:
        ValueError: there are no such layers.
    """

    layers: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= self.of:
            raise ValueError(f"a rung needs 1 to {self.of} layers; found {self.layers}")

    @property
    def whole(self) -> bool:
        return self.layers == self.of

    @property
    def cut(self) -> str:
        """What rows keep, as Identity.cut: empty for the whole model.

        >>> Rung(layers=6, of=32).cut, Rung(layers=32, of=32).cut
        ('6/32', '')
        """
        return "" if self.whole else f"{self.layers}/{self.of}"

    def __str__(self) -> str:
        return "the whole model" if self.whole else f"{self.layers} of {self.of} layers"

    @classmethod
    def parse(cls, cut: str) -> "Rung":
        """Read a cut, which is never empty: the whole model's does not say how many layers it has.

        Raises:
            ValueError: the text is no cut.

        >>> str(Rung.parse("6/32"))
        '6 of 32 layers'
        """
        layers = _CUT.fullmatch(cut)
        if not layers:
            raise ValueError(f"a cut needs the form 6/32; found {cut!r:.40}")
        return cls(layers=int(layers[1]), of=int(layers[2]))

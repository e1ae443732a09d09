"""Pick: the candidate that answers, and what it was chosen by."""

from dataclasses import dataclass

from selector.answer import Source, Stale
from selector.evidence.evidence import Elsewhere
from selector.evidence.ranking import Ranked
from selector.predict.prediction import Predicted, Prediction
from selector.served.ranking import ServedRanked


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The candidate that answers, and what it was chosen by."""

    label: str
    source: Source
    """Where the evidence comes from; RULES where there is none."""
    origin: Elsewhere | None = None
    """What it was transferred from."""
    ranking: tuple[Ranked, ...] = ()
    ranked: Ranked | None = None
    """Its own place there; None where it was not chosen by it."""
    tie: tuple[str, ...] = ()
    """Labels of those that cannot be told from it."""
    prediction: Prediction | None = None
    """What is expected of the whole model, where that decided."""
    stale: tuple[Stale, ...] = ()
    """What was measured with other versions, whether it answers or not."""
    measured_at: float | None = None
    """Unix time of the newest launch behind the answer."""
    served: tuple[ServedRanked, ...] = ()
    """Where the answer is for a load and stands on launches under it: the candidates, the choice first."""

    @property
    def expected(self) -> Predicted | None:
        """What is predicted of the candidate itself; None where nothing is."""
        return self.prediction.of(self.label) if self.prediction else None

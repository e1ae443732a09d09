"""Behind: what stands behind the front and answers, an engine with what it can be asked; it need not run yet."""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.engine.streams import Ability
from selector.serve.keep.keeper import Serving
from selector.serve.keep.watch import Silence
from selector.serve.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """An engine of a prepared candidate."""

    upstream: Upstream
    serving: Serving
    silence: Silence
    """For how long it may give nothing while requests run."""
    abilities: frozenset[Ability]
    """What it can be asked beside greedy tokens, as far as that is known before it is loaded."""
    takes_text: bool
    """False: token ids only."""
    takes_chats: bool
    batching: Callable[[], str]
    """Streams.batching, once it is loaded."""

    def lacks(self, other: "Behind", asked_for: frozenset[Ability]) -> str:
        """What of that which was asked for another engine can answer and this one cannot; empty: nothing.

        Args:
            asked_for: beside greedy tokens.
        """
        lacking = [f"`{ability}`" for ability in sorted((asked_for & other.able) - self.able)]
        lacking += ["text"] if other.takes_text and not self.takes_text else []
        lacking += ["chats"] if other.takes_chats and not self.takes_chats else []
        return " and no ".join(lacking)

    @property
    def able(self) -> frozenset[Ability]:
        """What it can be asked beside greedy tokens: by the engine, once it is loaded."""
        return self.upstream.abilities or self.abilities

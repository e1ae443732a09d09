"""Calibration: what a calibration planned, what it did, and the answers that follow from it."""

from dataclasses import dataclass
from typing import Any

from calibration.errors import IllegalBackend, NoLegalBackend
from calibration.load.use import Use
from calibration.measurement import Check, Outcome, Served, to_json
from calibration.race.tally import Sureness, Tally
from calibration.served.tally import ServedTally
from selector.answer import Selection, trace_json
from selector.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """A use that no backend can run, for instance one longer than the model's positions."""

    use: Use
    reason: IllegalBackend | NoLegalBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a calibration planned, what it did, and the answers that follow from it."""

    plan: Plan
    cache: str
    """Where it is kept."""
    tally: Tally
    """Of the static batches."""
    served: ServedTally | None = None
    """Of the loads; None where none was asked for."""
    selections: tuple[Selection, ...] = ()
    """The best backend for each use of the plan. Empty if nothing was measured."""
    unanswered: tuple[Unanswered, ...] = ()
    """The uses that no backend can run."""

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Everything known of it: of the batches, then of the loads."""
        return (*self.tally.outcomes, *(self.served.outcomes if self.served else ()))

    def to_json(self) -> dict[str, Any]:
        """What `autobackend calibrate --json` prints; seconds."""
        tally = self.tally
        checks = [o for o in tally.outcomes if isinstance(o, Check) and o.run_id in tally.fresh]
        return {
            "calibration_id": tally.calibration_id,
            "ended": tally.ended,
            "seconds": tally.seconds,
            "check_s": tally.check_s,
            "check_share": tally.check_s / tally.seconds if tally.seconds else 0.0,
            "measured": len(tally.fresh) - len(checks),
            "checked": len(checks),
            "reused": len(tally.outcomes) - len(tally.fresh),
            "out": dict(tally.out),
            "reasons": dict(tally.reasons),
            "whole_refused": dict(tally.whole_refused),
            "sureness": _sureness_json(tally.sureness),
            "unmeasured": list(tally.unmeasured),
            "cache": self.cache,
            "selections": [selection.to_json() for selection in self.selections],
            "unanswered": {unanswered.use.label: unanswered.reason.message for unanswered in self.unanswered},
            "outcomes": [to_json(outcome) for outcome in tally.outcomes],
            "served": None if self.served is None else _served_json(self.served),
        }


def _sureness_json(sureness: Sureness | None) -> dict[str, Any] | None:
    if sureness is None:
        return None
    picks = dict(sureness.picks)
    return {"probability": sureness.probability, "rung": str(sureness.rung), "cut": sureness.rung.cut, "picks": picks}


def _served_json(tally: ServedTally) -> dict[str, Any]:
    return {
        "calibration_id": tally.calibration_id,
        "loads": [load.label for load in tally.loads],
        "traces": [trace for load in tally.loads if (trace := trace_json(load))],
        "ended": tally.ended,
        "sureness": tally.sureness,
        "picks": list(tally.picks),
        "seconds": tally.seconds,
        "check_s": tally.check_s,
        "measured": sum(isinstance(o, Served) and o.run_id in tally.fresh for o in tally.outcomes),
        "out": dict(tally.out),
        "unmeasured": list(tally.unmeasured),
        "outcomes": [to_json(outcome) for outcome in tally.outcomes],
    }

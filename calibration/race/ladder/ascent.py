"""The state of a race on a ladder, from its launches and from what further ones would take. No clock, no process."""

import uuid
from collections.abc import Mapping, Sequence

from calibration.conversion.store import ArtifactStore
from calibration.launch.launcher import Launched
from calibration.measurement import Agreement, Answered, Cell, Check, Failure, Measurement, Outcome
from calibration.race.known import Known
from calibration.race.ladder.beliefs import Beliefs, Noise, Observation, learned
from calibration.race.ladder.depth import Depth, conversions, unaffordable
from calibration.race.ladder.expense import Expense
from calibration.race.ladder.position import Position, round_of
from calibration.rung import Rung
from calibration.supervision.launch_spec import LaunchSpec, Skipped
from calibration.workload import Workload

PATIENCE_S = 600.0
"""Without a budget, a launch on a deeper rung than the first is not begun that would take longer, its conversion, and
the weights and the reference of its rung included. An answer in minutes that says on what it stands is worth more."""


class Ascent:
    """The candidates of one calibration, on all rungs, and their launches so far.

    Args:
        candidates: in the static order.
        known: what earlier runs have left, for each rung.
        noise: how launches differ, before any was seen.
        calibration_id: that new launches belong to, where none is known; else one of its own.
    """

    def __init__(
        self,
        candidates: Sequence[LaunchSpec],
        depths: Sequence[Depth],
        known: Mapping[Rung, Known],
        *,
        beliefs: Beliefs,
        workloads: Sequence[Workload],
        noise: Noise,
        rounds: int,
        sure: float,
        budgeted: bool,
        calibration_id: str = "",
    ) -> None:
        self.specs = {spec.label: spec for spec in candidates}
        self.depths = {depth.rung: depth for depth in depths}
        self.outcomes: list[Outcome] = sorted(
            (o for of_rung in known.values() for o in of_rung.launches), key=lambda o: o.started_at
        )
        self.known_count = len(self.outcomes)
        self.agreements: dict[Rung, dict[str, Agreement]] = {r: dict(k.agreements) for r, k in known.items()}
        self.reasons: dict[str, str] = {}
        """Label: why it is launched no more, of those that were launched; filled as the race goes on."""
        self.expense = Expense({d.rung: 2 * d.original.parameters for d in depths})
        self._calibration_ids = {r: k.launches[-1].calibration_id for r, k in known.items() if k.launches}
        self._new_id = next(iter(self._calibration_ids.values()), calibration_id or uuid.uuid4().hex)
        self._beliefs = beliefs
        self._workloads = tuple(workloads)
        self._noise = noise
        self._rounds = rounds
        self._sure = sure
        self._budgeted = budgeted
        self._given_up: set[tuple[str, Rung]] = set()
        self._closed: dict[Rung, str] = {}
        self._opened = {rung for rung, k in known.items() if k.launches}
        self.refused: dict[tuple[str, Rung], str] = {}
        """Label and rung: why it cannot be launched there, as it was when the position was last looked at."""
        self._of_cut = {depth.identity.cut: depth.rung for depth in depths}

    def calibration_id(self, rung: Rung) -> str:
        """Launches of a rung go on in the calibration of those that it has."""
        return self._calibration_ids.get(rung, self._new_id)

    def position(self, store: ArtifactStore, left_s: float | None) -> Position:
        """Where the race stands.

        Raises:
            ArtifactError: the store's disk cannot be looked at.
        """
        labels = [label for label in self.specs if not self._failed(label)]
        prior, launches = self._beliefs.among(labels), self.launches(labels)
        noise = learned(self._noise, launches)
        believed = prior.given(launches, noise)
        opening = {r: d.opening_s for r, d in self.depths.items() if r not in self._opened}
        self.refused = {}
        seconds: dict[tuple[str, Rung], float] = {}
        for rung, depth in self.depths.items():
            lacking = conversions(depth, [self.specs[label] for label in labels], store)
            held = unaffordable(depth, lacking, store.free_bytes())
            for number, label in enumerate(labels):
                if (label, rung) in self._given_up:
                    continue
                launch_s = lacking[label].seconds if label in lacking else 0.0
                launch_s += self.expense.launch_s(
                    label,
                    rung,
                    prior.cells,
                    believed.mean[number, prior.rungs.index(rung)],
                    checked=label not in self.agreements[rung],
                )
                reason = (
                    self._closed.get(rung) or held.get(label) or self._too_long(rung, launch_s, opening, seconds, label)
                )
                if reason:
                    self.refused[label, rung] = reason
                else:
                    seconds[label, rung] = launch_s
        return Position(
            prior=prior,
            lossy=frozenset(label for label in labels if self.specs[label].variant.lossy),
            workloads=self._workloads,
            launches=launches,
            seconds=seconds,
            opening_s=opening,
            noise=noise,
            rounds=self._rounds,
            sure=self._sure,
            left_s=left_s,
        )

    def launches(self, labels: Sequence[str]) -> list[Observation]:
        """Those of these candidates that were timed, oldest first."""
        return [
            self.observation(o.candidate.label, self._of_cut[o.identity.cut], o.round, o.cells)
            for o in self.outcomes
            if isinstance(o, Measurement) and o.candidate.label in labels
        ]

    def observation(self, label: str, rung: Rung, number: int, cells: Sequence[Cell]) -> Observation:
        """A launch, as far as its cells were asked for."""
        times = {c.workload: (c.ttft_s, c.tpot_s) for c in cells if c.workload in self._beliefs.cells}
        return Observation(label=label, rung=rung, round=number, times=times)

    def round_of(self, label: str, rung: Rung) -> int:
        """Of a candidate's next launch."""
        return round_of(label, rung, self.launches(list(self.specs)))

    def unchecked(self, position: Position) -> list[tuple[str, Rung]]:
        """Who may still be the best by known times, and whose output was never compared for this config."""
        return [
            (launch.label, launch.rung)
            for launch in {(x.label, x.rung): x for x in position.launches}.values()
            if launch.label not in self.agreements[launch.rung]
            and launch.label not in position.out
            and (launch.label, launch.rung) not in self._given_up
        ]

    def upcoming(self, position: Position, label: str, rung: Rung) -> list[LaunchSpec]:
        """Who will be launched on the rung after this candidate, as far as it is certain."""
        others = [x for x in position.untried if x != label and (x, rung) in position.seconds]
        return [self.specs[x] for x in others]

    def add(self, label: str, rung: Rung, launched: Launched) -> None:
        """Count a launch."""
        outcome = launched.outcome
        self._opened.add(rung)
        if isinstance(outcome, Skipped):
            self._given_up.add((label, rung))
            return
        self.outcomes.append(outcome)
        checked = label not in self.agreements[rung]
        if isinstance(outcome, Answered):
            self.agreements[rung][label] = outcome.agreement
        if not isinstance(outcome, Failure):
            cells = outcome.cells if isinstance(outcome, Measurement) else ()
            self.expense.count(label, rung, launched.seconds - launched.once_s, cells, checked=checked)

    def close(self, rung: Rung, reason: str) -> None:
        """A rung whose weights cannot be had."""
        self._closed[rung] = reason

    def agreement_of(self, label: str) -> Agreement | None:
        """The verdict on a candidate's output, of the deepest rung that has one."""
        verdicts = [self.agreements[rung][label] for rung in sorted(self.depths) if label in self.agreements[rung]]
        return verdicts[-1] if verdicts else None

    def rounds_of(self, label: str) -> int:
        """The newest round that a candidate was launched in."""
        return max(
            (o.round for o in self.outcomes if o.candidate.label == label and not isinstance(o, Check)), default=0
        )

    def _failed(self, label: str) -> bool:
        return any(isinstance(o, Failure) and o.candidate.label == label for o in self.outcomes)

    def _too_long(
        self,
        rung: Rung,
        launch_s: float,
        opening: Mapping[Rung, float],
        seconds: Mapping[tuple[str, Rung], float],
        label: str,
    ) -> str:
        """Why a launch on a deeper rung is not worth its time, where no budget was given."""
        first = not any(shallower < rung for name, shallower in seconds if name == label)
        total_s = launch_s + opening.get(rung, 0.0)
        if first or self._budgeted or total_s <= PATIENCE_S:
            return ""
        return f"a launch would take about {total_s / 60:.0f} min (--budget gives it the time)"

"""climb(): race the candidates on a ladder, from a few layers to the whole model, as far as it takes to be sure."""

from collections.abc import Callable, Sequence
from pathlib import Path

from calibration.errors import ArtifactError
from calibration.events import (
    CandidateOut,
    LaunchBegan,
    LaunchEnded,
    LaunchGivenUp,
    RaceEnded,
    RungBegan,
    Standing,
)
from calibration.launch.launcher import Launched, Launcher
from calibration.launch.workshop import Workshop
from calibration.measurement import Cell, Measurement
from calibration.race.bounds import Bounds
from calibration.race.known import Known, resumable
from calibration.race.ladder.ascent import Ascent
from calibration.race.ladder.beliefs import Beliefs, Noise
from calibration.race.ladder.depth import Depth
from calibration.race.ladder.position import Ended, Position
from calibration.race.tally import Sureness, Tally
from calibration.rung import Rung
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Skipped
from calibration.workload import Workload


def climb(
    candidates: Sequence[LaunchSpec],
    depths: Sequence[Depth],
    workloads: Sequence[Workload],
    cells: Sequence[Workload],
    workshop: Workshop,
    *,
    beliefs: Beliefs | None = None,
    noise: Noise | None = None,
    bounds: Bounds | None = None,
    again: bool = False,
    calibration_id: str = "",
    foretell: Callable[[Position, Ascent], None] = lambda _position, _ascent: None,
) -> Tally:
    """Launch who is expected to tell most per second, until the pick is sure; each launch is kept before the next.

    A calibration that was interrupted goes on: what is in the cache counts, of all rungs. Where another model of the
    same shape was timed with today's versions, its times are taken, and who may be the best is checked.

    Args:
        candidates: in the static order.
        depths: the rungs, shallow first and the whole model last.
        workloads: what is answered for.
        cells: the workloads that are measured of each.
        beliefs: of these candidates, rungs and cells; where there are none, nothing is known beforehand.
        noise: how launches differ, before any was seen.
        bounds: a launch that the budget ends keeps the cells that it has timed.
        calibration_id: of what is new here, where others race other candidates of the same calibration; else its own.
        foretell: is shown where the race stands before its first launch.

    Raises:
        ArtifactError: the weights of the first rung cannot be had.
    """
    began, bounds = workshop.clock(), bounds or Bounds()
    deadline = workshop.deadline(bounds.budget_s)
    labels, rungs = [spec.label for spec in candidates], [depth.rung for depth in depths]
    known = {
        depth.rung: Known() if again else resumable(candidates, depth.identity, cells, workshop.cache, partly=True)
        for depth in depths
    }
    ascent = Ascent(
        candidates,
        depths,
        known,
        beliefs=beliefs or Beliefs.vague(labels, rungs, cells),
        workloads=workloads,
        noise=noise or Noise(),
        rounds=bounds.rounds,
        sure=bounds.sure,
        budgeted=bounds.budget_s is not None,
        calibration_id=calibration_id,
    )
    with workshop.folder() as folder:
        site = _Site(ascent, tuple(cells), workshop, folder, deadline)
        race = _Climb(ascent, site, bounds)
        foretell(race.position, ascent)
        ended = race.run()
    workshop.reporter.report(RaceEnded(why=ended.why))
    return _tally(ascent, race.position, ended, check_s=site.check_s, seconds=workshop.clock() - began)


class _Site:
    """Launchers, one for each rung that was reached."""

    def __init__(
        self, ascent: Ascent, cells: tuple[Workload, ...], workshop: Workshop, folder: Path, deadline: Deadline
    ) -> None:
        self.workshop, self.deadline, self.cells = workshop, deadline, cells
        self._ascent, self._folder = ascent, folder
        self._launchers: dict[Rung, Launcher] = {}

    @property
    def check_s(self) -> float:
        return sum(launcher.checker.seconds for launcher in self._launchers.values())

    def launcher(self, rung: Rung) -> Launcher:
        """Of a rung, whose weights are written where nothing was launched on it yet.

        Raises:
            ArtifactError: they cannot be had.
        """
        if rung not in self._launchers:
            depth = self._ascent.depths[rung]
            self.workshop.reporter.report(RungBegan(rung=rung, of=tuple(self._ascent.depths)))
            folder = self._folder / str(rung.layers)
            folder.mkdir(exist_ok=True)
            self._launchers[rung] = self.workshop.launcher(
                depth.subject(),
                self.cells,
                calibration_id=self._ascent.calibration_id(rung),
                folder=folder,
                deadline=self.deadline,
                reference=depth.reference,
                agreements=self._ascent.agreements[rung],
            )
        return self._launchers[rung]


class _Climb:
    """The loop: decide, launch, keep."""

    def __init__(self, ascent: Ascent, site: _Site, bounds: Bounds) -> None:
        self._ascent, self._site, self._bounds = ascent, site, bounds
        self._cache, self._reporter = site.workshop.cache, site.workshop.reporter
        self.position = self._look()

    def run(self) -> Ended:
        while True:
            match self.position.next():
                case Ended() as ended:
                    unchecked = self._ascent.unchecked(self.position)
                    if not unchecked or self._site.deadline.is_past():
                        return ended
                    self._launch(*unchecked[0], checks=True)
                case move:
                    self._launch(*move.launches[0])
            if self._site.deadline.is_past():
                self.position = self._look()
                decided = self.position.next()
                return decided if isinstance(decided, Ended) else Ended(why="budget")
            self.position = self._look()
            self._report_standing()

    def _look(self) -> Position:
        return self._ascent.position(self._site.workshop.store, self._site.deadline.left_s())

    def _launch(self, label: str, rung: Rung, *, checks: bool = False) -> None:
        """Launch a candidate, keep what comes of it, and report it."""
        ascent, reporter = self._ascent, self._reporter
        try:
            launcher = self._site.launcher(rung)
        except ArtifactError as error:
            if rung == min(ascent.depths):
                raise
            ascent.close(rung, error.message)
            return
        position, number = self.position, ascent.rounds_of(label) if checks else ascent.round_of(label, rung)
        reporter.report(LaunchBegan(candidate=label, left_s=position.remaining_s, rung=rung))
        left_s = position.left_s
        share_s = None if left_s is None else self._bounds.shares * left_s / (1 + len(position.untried))
        upcoming = ascent.upcoming(position, label, rung)
        spec = ascent.specs[label]
        told = False
        if checks:
            launched = launcher.check(spec, number, share_s=share_s, upcoming=upcoming)
        else:

            def may_lead(cells: Sequence[Cell]) -> bool:
                return bool(cells) and position.goes_on(ascent.observation(label, rung, number, cells))

            def worthwhile(cells: Sequence[Cell]) -> bool:
                nonlocal told
                told = not may_lead(cells)
                return not told

            launched = launcher.launch(
                spec, number, share_s=share_s, promising=may_lead, upcoming=upcoming, worthwhile=worthwhile
            )
        ascent.add(label, rung, launched)
        self._keep(label, launched, told=told)

    def _keep(self, label: str, launched: Launched, *, told: bool) -> None:
        """Keep what a launch left, and report it.

        Args:
            told: its first cells told enough.
        """
        outcome, reporter, of = launched.outcome, self._reporter, len(self._site.cells)
        cells = len(outcome.cells) if isinstance(outcome, Measurement) else of
        if isinstance(outcome, Skipped):
            reporter.report(LaunchGivenUp(candidate=label, seconds=launched.seconds, cells=0, of=of))
        elif cells < of and not told:
            reporter.report(LaunchGivenUp(candidate=label, seconds=launched.seconds, cells=cells, of=of))
        if not isinstance(outcome, Skipped):
            self._cache.add(outcome)
            reporter.report(LaunchEnded(outcome=outcome))

    def _report_standing(self) -> None:
        position, ascent = self.position, self._ascent
        launched = {launch.label for launch in position.launches}
        for label, why in position.out.items():
            if label in launched and label not in ascent.reasons:
                self._reporter.report(CandidateOut(candidate=label, number=ascent.rounds_of(label), why=why))
        ascent.reasons = {label: why for label, why in position.out.items() if label in launched}
        if launched:
            self._reporter.report(Standing(picks=position.picks[-1], sureness=position.sureness))


def _tally(ascent: Ascent, position: Position, ended: Ended, *, check_s: float, seconds: float) -> Tally:
    launched = {o.candidate.label for o in ascent.outcomes}
    fresh = ascent.outcomes[ascent.known_count :]
    reasons = dict(position.out)
    for label in ascent.specs:
        held = [ascent.refused[label, rung] for rung in sorted(ascent.depths) if (label, rung) in ascent.refused]
        if label not in launched and label not in reasons and len(held) == len(ascent.depths):
            reasons[label] = held[0]
    agreements = {label: verdict for label in ascent.specs if (verdict := ascent.agreement_of(label)) is not None}
    picked = sorted({label for picks in position.picks for label in picks}) if position.launches else []
    deepest = min((position.launched[label] for label in picked if label in position.launched), default=None)
    sureness = None
    if position.launches:
        sureness = Sureness(
            probability=position.sureness,
            rung=deepest or position.target,
            picks=dict(zip((w.label for w in position.workloads), position.picks[-1], strict=True)),
        )
    return Tally(
        calibration_id=ascent.calibration_id(position.target),
        outcomes=tuple(ascent.outcomes),
        fresh=frozenset(o.run_id for o in fresh),
        agreements=agreements,
        out={label: ascent.rounds_of(label) for label in position.out if label in launched},
        reasons=reasons,
        whole_refused={label: why for (label, rung), why in ascent.refused.items() if rung.whole},
        ended=ended.why,
        sureness=sureness,
        unmeasured=tuple(label for label in ascent.specs if label not in launched and label not in reasons),
        check_s=check_s,
        seconds=seconds,
    )

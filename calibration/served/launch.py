"""One launch of a candidate as a server: it is started, put under one load after another, and stopped."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calibration.events import PointBegan, PointEnded, Reporter, ServerReady, ServingEvent
from calibration.launch.session import Session
from calibration.load.load import Load
from calibration.load.sample import NoPoint, Point
from calibration.measurement import Agreement, FailureKind, OutputVerdict, Served, Unserved
from calibration.served.check import ServedChecker
from calibration.served.place import Hold, MeasureLoad, NeverReady, StartServer
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import LaunchSpec, Skipped
from calibration.supervision.log import end_of

SERVE = "serve"
"""The stage of a failure of a server that did not become ready."""
CHECK = "check as served"
"""The stage of one that answers wrong."""


@dataclass(slots=True, kw_only=True)
class ServerLauncher:
    """Launches the candidates of one calibration as servers."""

    session: Session
    reporter: Reporter[ServingEvent]
    start: StartServer
    measure: MeasureLoad
    checks: ServedChecker

    def launch(
        self,
        spec: LaunchSpec,
        hold: Hold,
        loads: Sequence[Load],
        round_number: int,
        agreement: Agreement,
        *,
        share_s: float | None = None,
    ) -> list[Served | Unserved] | Skipped:
        """Start it, check what it answers, and measure the loads in this order.

        Args:
            agreement: the verdict on the output of its engine alone.
            share_s: seconds that it may take; what a load has shown by then is kept. A load is not begun when they are
                over, and a trace not when they are fewer than it lasts.

        Returns:
            What it left: the points of the loads that it took, and a failure where it did not take all, or answered
            wrong; Skipped where the budget ended before it had taken one.
        """
        session = self.session
        self.checks.get_ready(spec, hold)
        deadline = session.deadline.within(share_s)
        if not _fits(loads[0], deadline):
            return Skipped()
        log = session.folder / f"{uuid.uuid4().hex}.log"
        log.touch()
        common = session.begin(spec, round_number)
        points, left, load_s = list[Point](), list[Served | Unserved](), 0.0

        def failed(kind: FailureKind, stage: str, message: str) -> Unserved:
            return Unserved(**_run(common), kind=kind, stage=stage, message=message, log_tail=end_of(log))

        try:
            with self.start(spec, hold, log) as server:
                load_s = server.load_s
                self.reporter.report(ServerReady(candidate=spec.label, seconds=load_s))
                as_served = self.checks.check(spec, hold, server, deadline)
                if as_served.verdict is OutputVerdict.WRONG:
                    return [failed(FailureKind.WRONG_OUTPUT, CHECK, as_served.detail)]
                for number, load in enumerate(loads, start=1):
                    if not _fits(load, deadline):
                        break
                    self.reporter.report(PointBegan(candidate=spec.label, load=load, number=number, of=len(loads)))
                    taken = self.measure(server, load, deadline.left_s())
                    self.reporter.report(PointEnded(candidate=spec.label, point=taken))
                    match taken:
                        case Point():
                            points.append(taken)
                        case NoPoint(reason=reason):
                            if not deadline.is_past():
                                ended = server.ended()
                                kind = FailureKind.CRASHED if ended else FailureKind.REFUSED
                                left.append(failed(kind, load.label, ended or reason))
                            break
        except NeverReady as error:
            if deadline.is_past():
                return Skipped()
            return [failed(_kind_of(error), SERVE, error.message)]
        if points:
            left.insert(0, _served({**_run(common), "as_served": as_served}, hold, points, load_s, agreement))
        return left or Skipped()


def _fits(load: Load, deadline: Deadline) -> bool:
    left_s = deadline.left_s()
    return left_s is None or left_s > load.least_s


def _served(common: dict[str, Any], hold: Hold, points: Sequence[Point], load_s: float, agreement: Agreement) -> Served:
    gpu = [point.peak_gpu_memory_bytes for point in points if point.peak_gpu_memory_bytes is not None]
    return Served(
        **common,
        load_s=load_s,
        peak_memory_bytes=max(point.peak_memory_bytes for point in points),
        gpu_memory_bytes=max(gpu, default=None),
        agreement=agreement,
        slots=hold.slots,
        threads=hold.threads,
        points=tuple(points),
    )


def _run(common: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": uuid.uuid4().hex, **common}


def _kind_of(error: NeverReady) -> FailureKind:
    if error.out_of_memory:
        return FailureKind.OUT_OF_MEMORY
    return FailureKind.TIMED_OUT if error.timed_out else FailureKind.CRASHED

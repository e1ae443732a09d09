"""Workshop: what every race works with, and the launchers that it is given for a model."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Event, Reporter
from calibration.launch.checker import Checker, MakeReference
from calibration.launch.launcher import Launcher
from calibration.launch.session import Session
from calibration.measurement import Agreement
from calibration.supervision.deadline import Deadline
from calibration.supervision.launch_spec import Limits, Subject
from calibration.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every race works with."""

    cache: Cache
    """Takes every launch before the next one begins."""
    store: ArtifactStore
    reporter: Reporter[Event]
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic

    def deadline(self, budget_s: float | None) -> Deadline:
        """The end of a budget that begins now; None: there is no end."""
        return Deadline(None, self.clock).within(budget_s)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for logs and score files, which is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="autobackend-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def launcher(
        self,
        subject: Subject,
        cells: Sequence[Workload],
        *,
        calibration_id: str,
        folder: Path,
        deadline: Deadline,
        reference: MakeReference,
        agreements: Mapping[str, Agreement],
    ) -> Launcher:
        """Launches the candidates of one model.

        Args:
            cells: the workloads that are measured of each.
            folder: is there, and nobody else's.
            deadline: of all launches, and of the reference.
            reference: makes (or finds) the reference's answers; called once, before the first check.
            agreements: candidate label: the verdict on its output, where it is known.
        """
        session = Session(
            calibration_id=calibration_id,
            subject=subject,
            cells=tuple(cells),
            store=self.store,
            folder=folder,
            reporter=self.reporter,
            limits=self.limits,
            deadline=deadline,
        )
        checker = Checker(session=session, make_reference=reference, agreements=dict(agreements))
        return Launcher(session=session, checker=checker)

"""What a calibration reports while it runs: a type for each event, and the Reporter that gets them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from calibration.load.load import Load
from calibration.load.sample import NoPoint, Point
from calibration.measurement import Agreement, Outcome
from calibration.rung import Rung
from calibration.workload import Workload

if TYPE_CHECKING:
    from calibration.conversion.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBegan:
    number: int
    of: int
    """Rounds at most."""
    candidates: tuple[str, ...]
    """Labels, in the order of their launches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RungBegan:
    """The first launch on a rung of a ladder: its weights are written where they are not there."""

    rung: Rung
    of: tuple[Rung, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a race on a ladder stands after a launch."""

    picks: tuple[str, ...]
    """The best so far, for each workload."""
    sureness: float
    """Sureness.probability"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchBegan:
    candidate: str
    left_s: float | None
    """Seconds until the calibration will probably be over; None while no time is known."""
    rung: Rung | None = None
    """In a race on a ladder: how many layers are launched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceBegan:
    """The reference's answers are computed, or looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFailed:
    """There is no reference: outputs stay unchecked."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionBegan:
    candidate: str
    expected: "Estimate"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointBegan:
    """A checkpoint is written: random weights, or the first layers of the model's own."""

    model: str
    expected: "Estimate"
    own: bool = False
    """They are the model's own weights."""
    cut: str = ""
    """Rung.cut: of how many layers; empty for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingContinues:
    """How far a conversion is, or the writing of random weights; twice a second."""

    what: str
    """`converted model`, `random weights`, `first layers`."""
    expected: "Estimate"
    elapsed_s: float
    written_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedAlongside:
    """While a candidate is converted, so are others that come after it."""

    candidate: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForAnother:
    """Another process makes the same artifact; this one waits for it."""

    doing: str
    """What the other does: `converts the same`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBegan:
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEnded:
    candidate: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckBegan:
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckEnded:
    candidate: str
    agreement: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBegan:
    candidate: str
    number: int
    of: int
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBegan:
    """A server is started, to be put under load."""

    candidate: str
    slots: int
    threads: int
    left_s: float | None
    """As in LaunchBegan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReady:
    candidate: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCheckBegan:
    """A server is asked several things at once, so that its answers can be compared with the reference's."""

    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCheckEnded:
    candidate: str
    agreement: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class PointBegan:
    """A server is put under a load."""

    candidate: str
    load: Load
    number: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PointEnded:
    candidate: str
    point: Point | NoPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGivenUp:
    """The budget ended while a server was under load, or it could not take more than what was asked for; nothing is
    kept.
    """

    candidate: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEnded:
    """Measured, served, checked or failed; the outcome is in the cache."""

    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchGivenUp:
    """The budget, or the launch's share of it, ended before the launch did."""

    candidate: str
    seconds: float
    cells: int
    """Number of the cells that were timed and are kept."""
    of: int
    """Number of all cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateOut:
    """It is not launched any more."""

    candidate: str
    number: int
    """The round after which it is out."""
    why: str
    """`slower on every cell`; on a ladder: `2.3 times slower than onnxruntime:fp32 (2.0 to 2.7) on 2 of 32 layers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceEnded:
    why: str
    """Tally.ended."""


MakingEvent = CheckpointBegan | WritingContinues | WaitingForAnother
ConversionEvent = MakingEvent | ConversionBegan | ConvertedAlongside
LaunchEvent = (
    ReferenceBegan | ReferenceFailed | ConversionEvent | LoadBegan | LoadEnded | CheckBegan | CheckEnded | CellBegan
)
ServingEvent = ServerBegan | ServerReady | ServedCheckBegan | ServedCheckEnded | PointBegan | PointEnded | ServerGivenUp
Event = (
    RoundBegan
    | RungBegan
    | LaunchBegan
    | LaunchEvent
    | ServingEvent
    | LaunchEnded
    | LaunchGivenUp
    | CandidateOut
    | Standing
    | RaceEnded
)

EventType_contra = TypeVar("EventType_contra", contravariant=True)


class Reporter(Protocol[EventType_contra]):
    """Gets the events of something that takes long, to show them.

    A calibration's runner reports an Event. What reports other events besides, such as a plan, has a union of its own.
    """

    def report(self, event: EventType_contra, /) -> None:
        """Show the event, keep it, or ignore it."""


class Silent:
    """A reporter that shows nothing."""

    def report(self, event: object, /) -> None:
        """Show nothing."""

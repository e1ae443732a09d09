"""Every exception that autobackend raises on purpose, each with its own exit code."""


class AutobackendError(Exception):
    """Something the user can mend: line 1 says what failed, with the value; line 2 how to mend it."""

    exit_code = 1

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n{self.mend}" if self.mend else self.message


class UsageError(AutobackendError):
    """An unknown backend, workload, objective or option value."""

    exit_code = 2


class ModelError(AutobackendError):
    """The model's folder, hub id, shape or config.json cannot be read."""

    exit_code = 3


class CacheError(AutobackendError):
    """The calibration cache cannot be opened, read or written."""

    exit_code = 4


class NoLegalBackend(AutobackendError):
    """Every backend was refused."""

    exit_code = 5


class IllegalBackend(AutobackendError):
    """The backend the user forced cannot run the model here."""

    exit_code = 6


class NotCalibrated(AutobackendError):
    """Nothing was measured and the caller asked for measurements only (strict)."""

    exit_code = 7


class DeviceBusy(AutobackendError):
    """Another calibration holds the device, or a server of autobackend runs on it."""

    exit_code = 8


class NothingMeasured(AutobackendError):
    """A calibration ended without one candidate measured."""

    exit_code = 9


class ArtifactError(AutobackendError):
    """A checkpoint or converted model cannot be made or kept: no space, no permission, a failed conversion."""

    exit_code = 10


class BackendError(AutobackendError):
    """A backend file, its configured interpreter or its package cannot be used."""

    exit_code = 11


class InstallError(AutobackendError):
    """A backend's own environment cannot be made: no space, no network, pip failed, or its engine does not run."""

    exit_code = 12


class TargetsMissed(AutobackendError):
    """No candidate is likely to meet --ttft and --tpot, and the caller asked for one that does (strict)."""

    exit_code = 13


class Worse(AutobackendError):
    """Results are worse than those that they were compared with."""

    exit_code = 14


class Outdated(AutobackendError):
    """Measurements that an upgrade made stale could change an answer."""

    exit_code = 15


class NotServed(AutobackendError):
    """`serve` cannot listen at its address, or its engine cannot be loaded or dies at every load."""

    exit_code = 16


class ClusterUnreachable(AutobackendError):
    """The Ray cluster does not answer, or cannot be joined."""

    exit_code = 17


class NoNode(AutobackendError):
    """No node of the cluster can do what is asked: autobackend is missing there, or of another version."""

    exit_code = 18


class CacheUnreachable(CacheError):
    """The cache's database server does not answer: its address, the network, or the server itself."""

    exit_code = 19


class CacheRefused(CacheError):
    """The cache's database server answers, and does not let this user in or does not allow what is asked."""

    exit_code = 20


class CacheDriverMissing(CacheError):
    """The cache is a PostgreSQL database, and psycopg is not installed."""

    exit_code = 21


class ClusterDiffers(AutobackendError):
    """The Ray cluster runs another version of Ray or of Python than this command."""

    exit_code = 22


class FleetIncomplete(AutobackendError):
    """A fleet was calibrated, and not every host has an answer for every model."""

    exit_code = 23


def kinds() -> list[type[AutobackendError]]:
    """Every kind of error here, by exit code; a kind and those that it is divided into each have their own."""

    def below(kind: type[AutobackendError]) -> list[type[AutobackendError]]:
        return [found for narrower in kind.__subclasses__() for found in (narrower, *below(narrower))]

    own = (kind for kind in below(AutobackendError) if kind.__module__ == __name__)
    return sorted(own, key=lambda kind: kind.exit_code)

"""What came of installing a backend."""

from dataclasses import dataclass
from typing import Any

from calibration.environments.venv import Venv
from calibration.errors import AutobackendError


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The backend has a virtual environment."""

    venv: Venv
    new: bool
    """Made now; else it was there."""

    @property
    def backend(self) -> str:
        return self.venv.backend

    def to_json(self) -> dict[str, Any]:
        return {"name": self.backend, "installed": True, "new": self.new, "environment": self.venv.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A backend that `--all` leaves out."""

    backend: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.backend, "installed": False, "skipped": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A backend whose virtual environment could not be made, among others."""

    backend: str
    error: AutobackendError

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.backend,
            "installed": False,
            "failed": self.error.message,
            "mend": self.error.mend,
            "exit_code": self.error.exit_code,
        }


Outcome = Installed | Skipped | Failed

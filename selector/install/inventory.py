"""Which backend is installed where: what `autobackend backends` lists."""

from dataclasses import dataclass
from typing import Any

from calibration.backend import Backend
from calibration.environments.venv import Venv
from calibration.environments.venvs import Venvs
from calibration.registry import all_backends
from selector.host.spec import HostSpec, Installation


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A backend, the interpreter that runs it on this host, and its virtual environment."""

    backend: Backend
    package: str
    """The distribution of the engine on this host's device."""
    devices: frozenset[str]
    """Kinds of device that it runs on."""
    runs_here: bool
    """This host's device is one of them."""
    installation: Installation | None
    """What the interpreter that runs it has installed; None where there is no such interpreter."""
    venv: Venv | None

    @property
    def version(self) -> str | None:
        """Of `package`; None where it is not installed."""
        return self.installation.versions.get(self.package) if self.installation else None

    @property
    def uses_venv(self) -> bool:
        """The interpreter that runs it is that of its virtual environment."""
        return self.venv is not None and self.installation is not None and self.installation.python == self.venv.python

    def to_json(self) -> dict[str, Any]:
        facts = self.backend.facts
        return {
            "name": self.backend.name,
            "title": facts.title,
            "url": facts.url,
            "package": self.package,
            "version": self.version,
            "python": str(self.installation.python) if self.installation else None,
            "problem": self.installation.problem if self.installation else "",
            "devices": sorted(self.devices),
            "device_here": self.runs_here,
            "variants": [variant.name for variant in self.backend.variants],
            "install": facts.install,
            "environment": self.venv.to_json() if self.venv else None,
            "used": self.uses_venv,
        }


def inventory(host: HostSpec) -> list[Listed]:
    """Every backend, in the static order."""
    venvs = Venvs().all()
    return [
        Listed(
            backend=backend,
            package=(facts := backend.facts.on(host.device.kind)).package,
            devices=facts.devices,
            runs_here=host.device.kind in facts.devices,
            installation=host.installations.get(name),
            venv=venvs.get(name),
        )
        for name, backend in all_backends().items()
    ]

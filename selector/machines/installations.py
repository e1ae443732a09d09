"""What is taken for installed on a machine that nobody can look at."""

from collections.abc import Mapping
from pathlib import Path

from calibration.backend import Backend
from calibration.environments.config_file import backend_python
from calibration.environments.distributions import normalise, requirement_name
from calibration.registry import all_backends
from selector.host.spec import HostSpec, Installation, Known
from selector.rules.install import meets

_PYTHON = Path("/usr/bin/python3")
"""Stands for the interpreters there, which nobody can look at."""


def assumed() -> dict[str, Installation]:
    """Backend name: an interpreter that has all that the backend needs, in versions that it works with.

    An engine that is installed here in such a version lends its own table of architectures, which is the same on every
    machine.

    Raises:
        BackendError: the config file that names interpreters cannot be read.
    """
    return {
        name: Installation(python=_PYTHON, versions={}, site_packages=_tables_here(backend), known=Known.ASSUMED)
        for name, backend in all_backends().items()
    }


def told(packages: Mapping[str, Mapping[str, str]]) -> dict[str, Installation]:
    """The same, but of the backends that are named the distributions and versions that are told, and no others."""
    named = {
        name: Installation(
            python=_PYTHON,
            versions={normalise(distribution): version for distribution, version in versions.items()},
            site_packages=(),
            known=Known.TOLD,
        )
        for name, versions in packages.items()
    }
    return {**assumed(), **named}


def packages_of(host: HostSpec) -> dict[str, dict[str, str]]:
    """Backend name: those distributions that a rule may look for, as `told` takes them."""
    found = {}
    for name, backend in all_backends().items():
        versions = host.installations[name].versions if name in host.installations else {}
        found[name] = {wanted: versions[wanted] for wanted in _looked_for(backend) if wanted in versions}
    return found


def _looked_for(backend: Backend) -> list[str]:
    facts = backend.facts
    requirements = [*facts.prepare_requires]
    requirements += [package for variant in backend.variants for package in variant.packages]
    requirements += [package for quant in facts.quants for package in quant.packages]
    return sorted({*facts.distributions, *map(requirement_name, requirements)})


def _tables_here(backend: Backend) -> tuple[Path, ...]:
    """Where the engine is installed here in a version that works; empty where it is not, or has no table."""
    facts = backend.facts
    if facts.architectures_table is None:
        return ()
    here = Installation.detect(backend_python(backend.name))
    own = next((r for r in facts.requires if requirement_name(r) == normalise(facts.package)), facts.package)
    versions = [here.versions.get(normalise(name)) for name in (facts.package, *facts.packages.values())]
    return here.site_packages if any(meets(own, version) for version in versions) else ()

"""Rules about what is installed where a backend runs."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from calibration.environments.distributions import beside_folder, normalise, requirement_name
from calibration.environments.packages import beside
from selector.host.kinds import KINDS
from selector.host.shared_objects import missing_libraries
from selector.host.spec import Installation, Known
from selector.rules.combination import Combination
from selector.rules.rule import Finding, backend_rule, variant_rule


@backend_rule
def installed(case: Combination) -> Finding:
    """The backend's package and what it requires are installed, in versions it works with."""
    facts, installation = case.facts, case.installation
    if installation.known is Known.ASSUMED:
        return None
    if installation.problem:
        return f"needs an interpreter; {installation.problem}"
    if normalise(facts.package) not in installation.versions:
        own = next((r for r in facts.requires if requirement_name(r) == normalise(facts.package)), facts.package)
        return f"needs {own}; it is not installed", install_command(installation, facts.install)
    return _needs(facts.requires, installation)


@backend_rule
def importable(case: Combination) -> Finding:
    """The backend's compiled libraries are there and find every shared object that they need."""
    if case.installation.known is not Known.SEEN or normalise(case.facts.package) not in case.installation.versions:
        return None
    sites = case.installation.site_packages
    for pattern in case.facts.libraries:
        libraries = [file for site in sites for file in sorted(site.glob(pattern))]
        if not libraries:
            return f"needs {pattern} of {case.facts.package}; the installed package has none", case.facts.install
        missing = [soname for file in libraries for soname in missing_libraries(file, sites)]
        if missing:
            what = ", ".join(dict.fromkeys(missing))
            text = f"needs {what} to load {libraries[0].name}; {missing[0]}: cannot open shared object file"
            return text, _carriers(missing, case.installation)
    return None


@variant_rule
def variant_packages(case: Combination) -> Finding:
    """What this variant alone needs is installed beside the backend."""
    facts, installation = case.facts, case.installation
    if installation.problem or normalise(facts.package) not in installation.versions:
        return None
    return _needs(case.variant.packages, installation)


@variant_rule
def prepare_packages(case: Combination) -> Finding:
    """What converts the model for this variant is installed beside the backend."""
    facts, installation = case.facts, case.installation
    if not case.variant.prepares or installation.problem or normalise(facts.package) not in installation.versions:
        return None
    if finding := _needs(facts.prepare_requires, installation, " to convert the model"):
        return finding
    if installation.known is not Known.SEEN:
        return None
    return _beside(case) or _source_files(case)


def install_command(installation: Installation, command: str) -> str:
    """`pip install X`, for the interpreter that runs the backend."""
    apart = installation.known is Known.SEEN and installation.python != Path(sys.executable)
    if not apart or not command.startswith("pip "):
        return command
    return f"{installation.python} -m {command}"


def lacking(requirements: Iterable[str], installation: Installation) -> list[str]:
    """Those that no installed distribution meets; of a machine that one does not hold, where nothing is told, none."""
    if installation.known is Known.ASSUMED:
        return []
    return [r for r in requirements if not meets(r, installation.versions.get(requirement_name(r)))]


def what_is(requirements: Iterable[str], installation: Installation) -> str:
    """`torch 2.3.0 is installed, nncf is not installed`."""
    versions = {name: installation.versions.get(name) for name in map(requirement_name, requirements)}
    return ", ".join(f"{n} {v} is installed" if v else f"{n} is not installed" for n, v in versions.items())


@lru_cache(maxsize=512)
def meets(requirement: str, version: str | None) -> bool:
    """A version (None: not installed) satisfies a requirement. Pre-releases and local versions count as they are."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    try:
        wanted = Requirement(requirement)
    except InvalidRequirement:
        return version is not None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    if version is None:
        return False
    try:
        return wanted.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return not wanted.specifier


def _needs(requirements: Iterable[str], installation: Installation, purpose: str = "") -> Finding:
    """What is lacking, and the command that installs it."""
    unmet = lacking(requirements, installation)
    if not unmet:
        return None
    mend = "pip install " + " ".join(f'"{r}"' for r in unmet)
    return f"needs {', '.join(unmet)}{purpose}; {what_is(unmet, installation)}", install_command(installation, mend)


def _beside(case: Combination) -> Finding:
    """Distributions in folders of their own, each in its exact version."""
    python = case.installation.python
    for pinned in case.facts.beside:
        name, _, version = pinned.partition("==")
        installed_version = beside(python, name)
        if installed_version != version:
            folder = beside_folder(python, name)
            mend = f"{python} -m pip install --no-deps --upgrade --target {folder} {pinned}"
            return f"needs {pinned} in {folder} to convert the model; {_is_there(installed_version)}", mend
    return None


def _source_files(case: Combination) -> Finding:
    """What only the engine's source distribution has, of the very version that is installed."""
    facts, installation = case.facts, case.installation
    files = facts.source_files
    version = installation.versions[normalise(facts.package)].partition("+")[0]  # what a build adds to it
    if files is None or (there := beside(installation.python, files.name)) == version:
        return None
    if files.sha256(version) is None:
        mend = install_command(installation, f'pip install "{facts.package}=={files.versions[-1]}"')
        return f"{files.unknown(facts.package, version)}; {_is_there(there)}", mend
    where = beside_folder(installation.python, files.name)
    text = f"needs {files.name} of {facts.package} {version} in {where} to convert the model; {_is_there(there)}"
    return text, f"autobackend backends fetch {case.backend.name}"


def _is_there(version: str | None) -> str:
    return f"{version} is installed" if version else "it is not installed"


def _carriers(missing: Iterable[str], installation: Installation) -> str:
    """What brings these libraries: wheels by a command, drivers by their name; empty where no kind of device tells."""
    kinds = KINDS.values()
    wheels = dict.fromkeys(kind.wheels[soname] for soname in missing for kind in kinds if soname in kind.wheels)
    drivers = dict.fromkeys(
        f"install {kind.driver_libraries[soname]}"
        for soname in missing
        for kind in kinds
        if soname in kind.driver_libraries
    )
    command = [install_command(installation, "pip install " + " ".join(wheels))] if wheels else []
    return "; ".join([*command, *drivers])

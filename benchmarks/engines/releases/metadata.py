"""The metadata of a release: what it requires."""

from collections.abc import Mapping
from email.parser import HeaderParser

from packaging.requirements import Requirement

from benchmarks.engines.releases.source import UnknownLayout

METADATA = "METADATA"
"""The name under which a release's metadata is kept: METADATA of a wheel, PKG-INFO of a source distribution."""

Members = Mapping[str, str]
"""The files of a release: path in the distribution, and text."""


def requirements(members: Members) -> dict[str, str]:
    """What the metadata requires without extras, and the versions of Python, each with its line.

    Raises:
        UnknownLayout: the release has no metadata.
    """
    if METADATA not in members:
        raise UnknownLayout("needs METADATA or PKG-INFO; the release has neither")
    text = members[METADATA]
    fields = HeaderParser().parsestr(text)
    lines = {line.strip(): number for number, line in reversed(list(enumerate(text.splitlines(), start=1)))}
    required: dict[str, str] = {}
    for written in fields.get_all("Requires-Dist") or []:
        requirement = Requirement(written)
        if requirement.marker is None or "extra" not in str(requirement.marker):
            required.setdefault(str(requirement), f"{METADATA}:{lines[f'Requires-Dist: {written.strip()}']}")
    if python := fields["Requires-Python"]:
        required[str(Requirement(f"python{python}"))] = f"{METADATA}:{lines[f'Requires-Python: {python.strip()}']}"
    return required

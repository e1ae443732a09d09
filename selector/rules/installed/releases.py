"""What each release of an engine has, from the file beside its backend, and which release a model needs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.environments.distributions import normalise, requirement_name
from selector.rules.combination import Combination
from selector.rules.install import install_command, meets
from selector.rules.rule import Finding

if TYPE_CHECKING:
    from packaging.version import Version

FORMAT = 1
"""Of the file. `python -m benchmarks.engines.releases` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Releases, one after another, that have something."""

    first: str
    """Of those that were read: where it is the oldest of them, earlier ones may have it, too."""
    last: str = ""
    """Empty: the newest that was read has it still."""
    source: str
    """File and line in the first release."""


Spans = Mapping[str, tuple[Span, ...]]
"""Name: the spans of releases that have it, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """What the releases of a distribution have."""

    distribution: str
    read: tuple[str, ...]
    """The releases that were read, oldest first."""
    architectures: Spans
    quant_methods: Spans
    requirements: Spans
    """Requirement strings of the distribution's metadata, and `python` with the versions that it runs on."""

    @classmethod
    def of(cls, file: Path) -> "Releases":
        """The content of a file, which is read once and again after it was changed.

        Raises:
            OSError: there is no such file.
            ValueError: it has another format.
        """
        return _parsed(file, file.stat().st_mtime_ns)

    def has(self, spans: Iterable[Span], version: str) -> bool | None:
        """Whether a release has what these spans are of; None where the releases that were read do not tell."""
        own = _version(version)
        if own < _version(self.read[0]):
            return None if any(span.first == self.read[0] for span in spans) else False
        before = max((r for r in self.read if _version(r) <= own), key=_version)
        after = min((r for r in self.read if _version(r) >= own), key=_version, default=before)
        there = [any(_within(release, span) for span in spans) for release in (before, after)]
        return there[0] if there[0] is there[1] else None


def another_release(case: Combination, spans_of: str, names: Iterable[str], what: str = "") -> Finding:
    """Why the installed release cannot do what others can; None where it can, or where nobody knows of one that can.

    Args:
        spans_of: `architectures` or `quant_methods`. Names of the latter come and go while weights are still loaded, so
            of them only earlier releases than the first are told.
        names: any of them is enough.
        what: what the release is needed for; empty: the name, without the ending that most have.
    """
    file, installed = case.facts.releases, case.installation.versions.get(normalise(case.facts.package))
    if file is None or installed is None or not _is_version(installed):
        return None
    releases = Releases.of(file)
    known: Spans = getattr(releases, spans_of)
    named = {name: known[name] for name in names if name in known}
    if not named or any(releases.has(spans, installed) is not False for spans in named.values()):
        return None
    name, spans = next(iter(named.items()))
    what = what or name.removesuffix("ForCausalLM")
    later = [span for span in spans if _version(span.first) > _version(installed)]
    if later:
        return _needs(case, releases, later[0], [f">={later[0].first}", *_until(later[0])], installed, what)
    if spans_of == "architectures":
        return _needs(case, releases, spans[-1], _until(spans[-1]), installed, what)
    return None


def _needs(case: Combination, releases: Releases, span: Span, range_: list[str], installed: str, what: str) -> Finding:
    """`needs lmdeploy >= 0.7.3 for Qwen3; 0.7.2 is installed`; with a mend where the backend drives such a release."""
    package = case.facts.package
    written = " and ".join(f"{part[:2]} {part[2:]}" for part in range_)
    text = f"needs {package} {written} for {what}; {installed} is installed"
    own = next((r for r in case.facts.requires if requirement_name(r) == normalise(package)), package)
    if not any(meets(own, release) for release in releases.read if _within(release, span)):
        return text
    return text, install_command(case.installation, f'pip install "{package}{",".join(range_)}"')


def _until(span: Span) -> list[str]:
    return [f"<={span.last}"] if span.last else []


def _within(release: str, span: Span) -> bool:
    own = _version(release)
    return _version(span.first) <= own and (not span.last or own <= _version(span.last))


def _is_version(text: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        _version(text)
    except InvalidVersion:
        return False
    return True


@lru_cache(maxsize=4096)
def _version(text: str) -> "Version":
    """A version without what a build adds to it (`+cpu`)."""
    from packaging.version import Version

    return Version(Version(text).public)


@lru_cache(maxsize=32)
def _parsed(file: Path, changed: int) -> Releases:  # noqa: ARG001  `changed` is part of the key only
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        raise ValueError(f"{file} has format {content.get('format')}, not {FORMAT}")
    return Releases(
        distribution=content["distribution"],
        read=tuple(content["releases"]),
        architectures=_spans(content["architectures"]),
        quant_methods=_spans(content["quant_methods"]),
        requirements=_spans(content["requirements"]),
    )


def _spans(table: Mapping[str, list[Mapping[str, Any]]]) -> Spans:
    return {name: tuple(Span(**span) for span in spans) for name, spans in table.items()}

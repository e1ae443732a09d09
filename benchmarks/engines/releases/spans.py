"""From what single releases have to the spans of releases that have it, and to the file that tells them."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.engines.releases.source import UnknownLayout
from selector.rules.installed.releases import FORMAT, Releases, Span, Spans

Sources = Mapping[str, str]
"""Name: file and line."""

_MOST_LOST = 0.6
"""Share of the architectures of the release before it that a release may lack. The most that was really removed is 17
of 32 (TurboMind in lmdeploy 0.14.0); a reader that looks in the wrong place loses nearly all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one release has."""

    architectures: Sources
    quant_methods: Sources = field(default_factory=dict)
    requirements: Sources = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    """Architectures that the release itself lists as removed, or as models that do not write text."""
    mentioned: frozenset[str] = frozenset()
    """Every name and string in the code of the files that were read."""


def gathered(distribution: str, contents: Mapping[str, Contents], confirmed: frozenset[str] = frozenset()) -> Releases:
    """The spans of all that the releases have.

    Args:
        distribution: its name.
        contents: of each release, oldest first.
        confirmed: architectures whose removal somebody has looked at: their names still stand in the code.

    Raises:
        UnknownLayout: a release lacks what the one before it had, and does not look as if it had been removed.
    """
    versions = list(contents)
    for before, after in itertools.pairwise(versions):
        _check(distribution, after, contents[before], contents[after], confirmed)
    return Releases(
        distribution=distribution,
        read=tuple(versions),
        architectures=_spans({version: content.architectures for version, content in contents.items()}),
        quant_methods=_spans({version: content.quant_methods for version, content in contents.items()}),
        requirements=_spans({version: content.requirements for version, content in contents.items()}),
    )


def text_of(releases: Releases) -> str:
    """JSON with a line for each name, so that a change is seen in a diff; the same releases give the same bytes."""
    blocks = [
        f' "format": {FORMAT}',
        f' "distribution": {json.dumps(releases.distribution)}',
        f' "releases": {json.dumps(releases.read)}',
        _block("architectures", releases.architectures),
        _block("quant_methods", releases.quant_methods),
        _block("requirements", releases.requirements),
    ]
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _check(distribution: str, version: str, before: Contents, after: Contents, confirmed: frozenset[str]) -> None:
    where = f"{distribution} {version}"
    mend = "look at the release: teach benchmarks/engines/releases/readers.py its layout, or confirm what went there"
    if not after.architectures:
        raise UnknownLayout(f"{where}: needs architectures; found none", mend)
    lost = before.architectures.keys() - after.architectures.keys()
    if len(lost) > _MOST_LOST * len(before.architectures):
        raise UnknownLayout(f"{where}: lacks {len(lost)} of {len(before.architectures)} architectures", mend)
    still_there = sorted((lost & after.mentioned) - after.gone - confirmed)
    if still_there:
        raise UnknownLayout(f"{where}: lacks {', '.join(still_there)}, which its code still names", mend)
    if before.quant_methods and not after.quant_methods:
        raise UnknownLayout(f"{where}: needs quant methods; found none", mend)


def _spans(tables: Mapping[str, Sources]) -> Spans:
    """Spans of every name, sorted by it."""
    versions = list(tables)
    spans: dict[str, list[Span]] = {}
    for number, version in enumerate(versions):
        earlier: Sources = tables[versions[number - 1]] if number else {}
        for name, source in tables[version].items():
            if name not in earlier:
                spans.setdefault(name, []).append(
                    Span(first=version, last=_last(versions, number, tables, name), source=source)
                )
    return {name: tuple(spans[name]) for name in sorted(spans)}


def _last(versions: Sequence[str], first: int, tables: Mapping[str, Sources], name: str) -> str:
    """The last release of a span that begins at a number; empty where it is the newest."""
    for before, after in zip(versions[first:], versions[first + 1 :], strict=False):
        if name not in tables[after]:
            return before
    return ""


def _block(title: str, spans: Spans) -> str:
    lines = [f"  {json.dumps(name)}: {json.dumps([_written(span) for span in spans[name]])}" for name in sorted(spans)]
    inside = "\n" + ",\n".join(lines) + "\n " if lines else ""
    return f' "{title}": {{{inside}}}'


def _written(span: Span) -> dict[str, str]:
    return {"first": span.first, **({"last": span.last} if span.last else {}), "source": span.source}

"""Known disagreements: pairs in which the rules are wrong and stay so, each with its cause and where that stands."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rule_truth.judging import Pair, Pairing
from calibration.codec import LEAST, from_plain
from calibration.errors import UsageError

FOLDER = Path(__file__).parent
DISAGREEMENTS = frozenset({Pairing.FALSE_YES, Pairing.FALSE_NO})

Key = tuple[str, str]
"""Case and candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Every one of these cases in every one of these variants: the same way wrong, for the same cause."""

    cases: tuple[str, ...] = field(metadata={LEAST: 1})
    variants: tuple[str, ...] = field(metadata={LEAST: 1})
    """Of the backend that the file is named after."""
    pairing: Pairing
    """`false yes` or `false no`."""
    cause: str
    """Why no rule decides it: a defect of the engine, or what no file of a model tells."""
    reference: str
    """Where the cause stands: an issue of the engine, or a file of its package and the line."""
    seen: str
    """Package and version in which it was seen."""

    def __post_init__(self) -> None:
        if self.pairing not in DISAGREEMENTS:
            raise ValueError(f"pairing needs {Pairing.FALSE_YES} or {Pairing.FALSE_NO}; found {self.pairing}")
        for name in ("cause", "reference", "seen"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} needs words; found none")

    def keys(self, backend: str) -> Iterator[Key]:
        return ((case, f"{backend}:{variant}") for variant in self.variants for case in self.cases)


@dataclass(frozen=True, slots=True)
class Known:
    """All that are listed."""

    listed: Mapping[Key, Disagreement] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path = FOLDER) -> "Known":
        """Read the list.

        Raises:
            UsageError: a file is of another form, or lists a pair twice.
        """
        listed = dict[Key, Disagreement]()
        for file in sorted(folder.glob("*.toml")):
            for disagreement in _read(file):
                for case, label in disagreement.keys(file.stem):
                    if (case, label) in listed:
                        raise _unusable(file, f"{case} in {label} is listed twice")
                    listed[case, label] = disagreement
        return cls(listed)

    def explains(self, pair: Pair) -> Disagreement | None:
        """What is listed of a pair that disagrees in the way that is listed."""
        disagreement = self.listed.get(key_of(pair))
        return disagreement if disagreement and disagreement.pairing is pair.pairing else None

    def errors(self, pairs: Iterable[Pair], untried: Iterable[Key]) -> Sequence[str]:
        """What is wrong in the list: pairs that do not disagree as it says, and such as nobody tried.

        Args:
            pairs: those that were judged; of others nothing is said.
            untried: of the listed pairs those that the truth file lacks.
        """
        wrong = [
            f"`{pair.trial.case}` in `{pair.trial.candidate}` is listed as {listed.pairing}; found {pair.pairing}"
            for pair in pairs
            if (listed := self.listed.get(key_of(pair))) and listed.pairing is not pair.pairing
        ]
        return [*wrong, *(f"`{case}` in `{label}` is listed, but was not tried" for case, label in untried)]


def key_of(pair: Pair) -> Key:
    return (pair.trial.case, pair.trial.candidate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    disagreement: tuple[Disagreement, ...] = ()


def _read(file: Path) -> tuple[Disagreement, ...]:
    try:
        return from_plain(_File, tomllib.loads(file.read_text(encoding="utf-8"))).disagreement
    except ValueError as error:
        raise _unusable(file, str(error)) from None


def _unusable(file: Path, problem: str) -> UsageError:
    return UsageError(f"{file.name}: {problem}", "docs/benchmarks.md tells the form of the list")

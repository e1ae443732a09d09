"""The truth file: what loading showed, one JSON line for each pair of a case and a candidate, written when it ends."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.errors import UsageError

TRUTH, CASES = "truth.jsonl", "cases.jsonl"
"""Of the folder of results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What loading a case with one candidate showed."""

    case: str
    config: str
    """Digest of the case's files: another digest is another case."""
    candidate: str
    """Label."""
    versions: Mapping[str, str]
    """Of the engine and of what converts for it."""
    verdict: str
    """`right`, `lossy`, `wrong output`, `refused`, `crashed`, `timed out`, `out of memory`; or `unchecked`, where there
    is no reference, so that loading alone is known; `unread`, where transformers ran what autobackend cannot read."""
    stage: str = ""
    """Where it failed: prepare, load, check."""
    message: str = ""
    """The engine's words, or what the check found."""
    fresh: bool = True
    """In a worker that had loaded nothing else before."""
    seconds: float = 0.0

    @property
    def works(self) -> bool:
        return self.verdict in {"right", "lossy"}

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.case, self.config, self.candidate, key_of(self.versions))


def key_of(versions: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(versions.items())))


def read_trials(path: Path) -> dict[tuple[str, str, str, str], Trial]:
    """The last trial of each pair; a line that was cut off by a crash is none.

    Raises:
        UsageError: a line is of another form.
    """
    trials: dict[tuple[str, str, str, str], Trial] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            trial = Trial(**json.loads(line))
        except json.JSONDecodeError:
            continue
        except TypeError as error:
            raise UsageError(f"{path}, line {number}: {error}", "move the file away, and measure anew") from None
        trials.pop(trial.key, None)  # the order is that of the last lines
        trials[trial.key] = trial
    return trials


def newest(trials: Iterable[Trial]) -> list[Trial]:
    """Of each case and candidate the last trial, whatever the versions."""
    return list({(trial.case, trial.config, trial.candidate): trial for trial in trials}.values())


def append(path: Path, trial: Trial) -> None:
    """Write a line at once, so that a run that is stopped loses one pair at most."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_plain(trial)) + "\n")


def _plain(trial: Trial) -> dict[str, Any]:
    return {**asdict(trial), "versions": dict(trial.versions), "seconds": round(trial.seconds, 1)}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

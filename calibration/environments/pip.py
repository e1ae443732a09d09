"""pip in another interpreter: what it is doing while it runs, and its own reason when it fails."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from calibration.environments.lifeline import Guarded


class Say(Protocol):
    """Called with what is being done, and with the part of it that is being done now."""

    def __call__(self, what: str, now: str = "") -> None: ...


_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Name or service not known"
    r"|Network is unreachable|Connection refused|ProxyError|ConnectTimeoutError|Read timed out"
)
_NOT_FOUND = re.compile(r"No matching distribution found for (\S+)|Could not find a version that satisfies")
_FULL = "No space left on device"
_NAME = re.compile(r"^(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")
_BUILDING = re.compile(r"^\s*Building wheel for ([A-Za-z0-9._-]+)")
_REASON_LINES = 3
_KEPT_LINES = 400

_LEFT_OUT = (
    "PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_REQUIREMENT", "PIP_ROOT", "PIP_TARGET", "PIP_USER",
    "__PYVENV_LAUNCHER__",
)  # fmt: skip
"""Variables that would let pip find packages, or put them, outside the interpreter that runs it."""


class PipFailed(Exception):
    """pip ended with an error.

    Attributes:
        reason: pip's last error lines; a full disk or a missing network that explains them comes first.
        not_found: pip reached its index and found no such distribution there.
        full: the disk is full.
    """

    def __init__(self, lines: Sequence[str], code: int) -> None:
        text = "\n".join(lines)
        reasons = [line.partition("ERROR:")[2].strip() for line in lines if line.startswith("ERROR:")]
        # pip shows the output of a failed build in a frame, and its own last error line only points there.
        reasons += [lines[i - 1].strip() for i, line in enumerate(lines) if line.strip() == "[end of output]" and i > 0]
        reasons = [line for line in reasons if line] or [line.strip() for line in lines if line.strip()][-1:]
        self.full = _FULL in text
        offline = not self.full and _NO_NETWORK.search(text) is not None
        self.not_found = not offline and _NOT_FOUND.search(text) is not None
        self.reason = "; ".join(dict.fromkeys(reasons[-_REASON_LINES:])) or f"it ended with exit code {code}"
        if self.full:
            self.reason = f"no space left on the disk: {self.reason}"
        elif offline:
            self.reason = f"no package index could be reached: {self.reason}"
        super().__init__(self.reason)


def variables(temporary: Path) -> dict[str, str]:
    """Variables for commands that fill a virtual environment; they unpack into `temporary`."""
    kept = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    return kept | {
        "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", "TMPDIR": str(temporary),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off", "PIP_NO_COLOR": "1",
    }  # fmt: skip


def install(python: Path, arguments: Sequence[str], *, what: str, temporary: Path, log: IO[str], say: Say) -> None:
    """`pip install --no-deps ARGUMENTS` by an interpreter, for that interpreter.

    Args:
        what: what pip is doing, in words for `say`: `installing 45 packages`.
        temporary: an existing folder for what pip unpacks.
        log: takes all that pip prints.
        say: called with `what` and with what pip is doing now: `collecting 3: torch`.

    Raises:
        PipFailed: with its reason.
        OSError: the interpreter cannot be started.
    """
    command = [str(python), "-m", "pip", "install", "--no-deps", *arguments]
    log.write("$ " + " ".join(command) + "\n")
    say(what)
    lines: list[str] = []
    names: set[str] = set()
    with Guarded(command, variables=variables(temporary)) as pip:
        for line in pip.lines():
            log.write(line + "\n")
            log.flush()
            lines.append(line)
            if match := _NAME.match(line):
                names.add(match[1])
                say(what, f"collecting {len(names)}: {match[1]}")
            elif match := _BUILDING.match(line):
                say(what, f"building {match[1]}")
            elif line.startswith("Installing collected packages"):
                say(what, "unpacking")
        code = pip.wait()
    if code:
        raise PipFailed(lines[-_KEPT_LINES:], code)

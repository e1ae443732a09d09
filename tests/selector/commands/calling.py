"""The command, called here or in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from selector.cli import main

ROOT = Path(__file__).resolve().parents[3]

MODEL = "shape:smollm2-135m"

SDPA, EAGER = "transformers:sdpa", "transformers:eager"


def run(*words: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, [str(w) for w in words], prog_name="autobackend")


def program(*words: object, **popen: object) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own."""
    code = "from selector.cli import main; main(prog_name='autobackend')"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **popen)  # type: ignore[call-overload,no-any-return]


PROMISING = re.compile(
    r"note: \S+:\S+ was not measured; it is predicted to be \S+ times faster \(P 0\.\d+\)\."
    rf" Measure it: autobackend calibrate {MODEL}.*\n"
)
"""Of the launches in these caches nothing is as fast as real engines."""

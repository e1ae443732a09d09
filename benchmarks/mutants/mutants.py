"""Do the tests of the core notice a slip? Each one-token change of its modules runs against that module's own tests.

`python -m benchmarks.mutants [FILE ...]`: prints the changes that passed their tests and fails where one of them is not
explained in tests/mutants.toml, or where fewer than 90 % were noticed. Written here since mutmut leaves decorated
functions and the tops of files alone, and cosmic-ray starts an interpreter for each change.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from benchmarks.mutants.mutations import Mutant, mutants

TABLE = Path("tests/mutants.toml")
REPORT = Path("build/mutants.jsonl")
"""A line for each change, as soon as its tests have ended: file, scope, before, after, line, noticed."""
GOAL = 0.90
"""Share of the changes that the tests must notice."""
TIMES, SPARE_S = 5.0, 10.0
"""A change may make its tests so many times slower, and so much, before they count as stopped: it was noticed."""
PRELOADED = ("alembic", "click", "hypothesis", "numpy", "packaging.requirements", "pytest", "rich", "sqlalchemy")
"""Imported once, before the processes part: none of our own modules, which each process imports with its change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """tests/mutants.toml."""

    tests: dict[str, list[str]]
    """File of the core: the test files that must notice a change of it."""
    explained: dict[tuple[str, str, str, str], str]
    """(file, scope, before, after) of a change that may pass: why."""

    @classmethod
    def read(cls, file: Path = TABLE) -> "Table":
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        explained = {
            (entry["file"], entry["scope"], before, after): entry["why"]
            for entry in content.get("explained", [])
            for before, after in entry["changes"]
        }
        return cls(tests=content["tests"], explained=explained)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    file: str
    mutant: Mutant
    noticed: bool

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.file, self.mutant.scope, self.mutant.before, self.mutant.after


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="files of the core; all of tests/mutants.toml where none is named")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="a sample: each Nth change alone")
    options = parser.parse_args()
    table = Table.read()
    files = options.files or list(table.tests)
    for name in PRELOADED:
        importlib.import_module(name)
    began, results = time.monotonic(), list[Result]()
    REPORT.parent.mkdir(exist_ok=True)
    with REPORT.open("w", encoding="utf-8") as kept:
        for result in run({file: table.tests[file] for file in files}, options.jobs, options.every):
            results.append(result)
            print(json.dumps([*result.key, result.mutant.line, result.noticed]), file=kept, flush=True)
    lines, failed = report(results, table)
    print("\n".join(lines))
    print(f"{len(results)} changes in {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


def run(tests: dict[str, Sequence[str]], jobs: int, every: int = 1) -> Iterator[Result]:
    """Each change of these files (or each Nth), in a process of its own, `jobs` of them at a time.

    Raises:
        SystemExit: the tests fail on the unchanged source.
    """
    waiting: list[tuple[str, Mutant, float]] = []
    for file, its_tests in tests.items():
        began = time.monotonic()
        pid = _started(file, Path(file).read_text(encoding="utf-8"), its_tests)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            sys.exit(f"{' '.join(its_tests)} fails already without a change of {file}")
        limit_s = SPARE_S + TIMES * (time.monotonic() - began)
        waiting += [(file, mutant, limit_s) for mutant in mutants(Path(file).read_text(encoding="utf-8"))[::every]]
    waiting.reverse()
    running: dict[int, tuple[str, Mutant, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            file, mutant, limit_s = waiting.pop()
            running[_started(file, mutant.source, tests[file])] = (file, mutant, time.monotonic() + limit_s)
        time.sleep(0.01)
        for pid, (file, mutant, deadline) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, 0)
            if ended:
                del running[pid]
                yield Result(file=file, mutant=mutant, noticed=status != 0)


def report(results: Iterable[Result], table: Table) -> tuple[list[str], bool]:
    """What a person reads: what passed, a line for each file; and whether something must be done."""
    noticed, passed, unexplained = Counter[str](), Counter[str](), 0
    lines: list[str] = []
    needless = {key for key in table.explained if key[0] in {r.file for r in results}}
    for result in results:
        noticed[result.file] += result.noticed
        passed[result.file] += not result.noticed
        if result.noticed:
            continue
        needless.discard(result.key)
        if result.key not in table.explained:
            unexplained += 1
            mutant = result.mutant
            lines += [f"{result.file}:{mutant.line} {mutant.scope}", f"    {mutant.before}", f"    {mutant.after}"]
    lines += [f"{key[0]} {key[1]}: explained, but noticed or gone: {key[3]}" for key in sorted(needless)]
    for file in noticed:
        count = noticed[file] + passed[file]
        lines.append(f"{file:<34} {noticed[file]:>4} of {count:>4} noticed {noticed[file] / count:>6.1%}")
    total, share = noticed.total() + passed.total(), noticed.total() / max(1, noticed.total() + passed.total())
    lines.append(f"{'all':<34} {noticed.total():>4} of {total:>4} noticed {share:>6.1%}; {unexplained} not explained")
    return lines, bool(unexplained or needless) or share < GOAL


def _started(file: str, source: str, tests: Sequence[str]) -> int:
    """A process that runs the tests with `source` in place of the file; its exit code is pytest's."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    code = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        code = _tested(file, source, tests)
    finally:
        os._exit(code)


def _tested(file: str, source: str, tests: Sequence[str]) -> int:
    import pytest
    from hypothesis import Phase, settings

    # Quick and always the same: a failing example need not be made smaller.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", database=None, deadline=None, derandomize=True, phases=phases)
    settings.load_profile("mutants")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, _Changed(file, source))
    marks = "not engine and not lmdeploy and not slow"
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", marks, *tests]))


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module in another source than its file's."""

    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._name = file.removesuffix(".py").replace("/", ".")
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, Path(self._file).absolute(), loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._file, "exec"), module.__dict__)  # noqa: S102  our own source, one token changed

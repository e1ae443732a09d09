"""The examples in docstrings are true.

Not by pytest's --doctest-modules: that imports every module, also those that alembic and the engines' interpreters run.
"""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    file.relative_to(ROOT)
    for package in ("calibration", "selector", "benchmarks")
    for file in sorted((ROOT / package).glob("**/*.py"))
    if ">>> " in file.read_text()
]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_examples(file: Path) -> None:
    module = importlib.import_module(".".join(file.with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_there_are_examples() -> None:
    assert len(FILES) >= 10

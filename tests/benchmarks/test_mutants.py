"""The run that changes one token at a time: what it changes, what it leaves alone, and what it says of it."""

import textwrap
from pathlib import Path

import pytest

from benchmarks.mutants.mutants import Result, Table, report, run
from benchmarks.mutants.mutations import Mutant, mutants

HALF = textwrap.dedent('''
    """A module."""

    LIMIT = 4


    def half(number: int) -> int:
        """Half of a number."""
        if number < LIMIT and not number % 2:
            return number // 2
        return min(number, 0)
    ''').lstrip()


def test_every_token_that_decides_something_is_changed_once() -> None:
    assert [(mutant.scope, mutant.after) for mutant in mutants(HALF)] == [
        ("", "LIMIT = 5"),
        ("half", "if number < LIMIT and  number % 2:"),
        ("half", "if number < LIMIT and not number % 3:"),
        ("half", "if number < LIMIT and not number * 2:"),
        ("half", "if number < LIMIT or not number % 2:"),
        ("half", "if number <= LIMIT and not number % 2:"),
        ("half", "return number * 2"),
        ("half", "return number // 3"),
        ("half", "return max(number, 0)"),
        ("half", "return min(number, 1)"),
    ]


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("x = a is not b", ["x = a is b"]),
        ("x = (a + b) not in (c)", ["x = (a + b) in (c)", "x = (a - b) not in (c)"]),
        ("x = a < b <= c", ["x = a < b < c", "x = a <= b <= c"]),
        ("x = a or b or c", ["x = a and b or c", "x = a or b and c"]),
        ("x = -1.5", ["x = -3.0", "x = 1.5"]),
        ("x = 0.0, True, 7", ["x = 0.0, False, 7", "x = 0.0, True, 8", "x = 1.0, True, 7"]),
        ("x = 'é' + r'b'", ["x = 'XXé' + r'b'", "x = 'é' + r'XXb'", "x = 'é' - r'b'"]),
        ("x += a.mean()", ["x += a.max()", "x -= a.mean()"]),
        ("x = [y for y in z if y]", ["x = [y for y in z if not (y)]"]),
        ("x = a if b() else c", ["x = a if not (b()) else c"]),
        ("x = sorted(a, key=median)", ["x = list(a, key=median)", "x = sorted(a, key=max)"]),
        # Left alone.
        ("def f(x: 'a | b') -> 'c': 'd'", []),
        ("from a import b", []),
        ("x: 'a' = f'{b}'", []),
        ("@dataclass(frozen=True)\nclass A: ...", []),
        ("if TYPE_CHECKING:\n    x = 1", []),
        ("@rule(order=1)\ndef f(): ...", ["@rule(order=2)"]),
    ],
)
def test_what_is_changed_and_what_is_left_alone(line: str, after: list[str]) -> None:
    assert [mutant.after for mutant in mutants(line + "\n")] == after


def test_a_change_is_the_only_difference_of_the_source() -> None:
    (first, *_) = mutants(HALF)
    assert (first.line, first.before) == (3, "LIMIT = 4")
    assert first.source == HALF.replace("LIMIT = 4", "LIMIT = 5")


def test_a_change_is_noticed_where_the_tests_fail_or_do_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting.py").write_text(
        "def down(n):\n    while n > 0:\n        n = n - 1\n    return n if n == 0 else 10\n"
    )
    (tmp_path / "test_counting.py").write_text(
        "from counting import down\n\n\ndef test_it():\n    assert down(3) == 0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # Enough for the change that is not noticed, also on a busy machine.
    monkeypatch.setattr("benchmarks.mutants.mutants.SPARE_S", 8.0)
    monkeypatch.setattr("benchmarks.mutants.mutants.TIMES", 2.0)
    found = {result.mutant.after: result.noticed for result in run({"counting.py": ["test_counting.py"]}, jobs=2)}
    assert found == {
        "while n >= 0:": True,
        "while n > 1:": True,
        "n = n + 1": True,  # does not end
        "n = n - 2": True,
        "return n if n != 0 else 10": True,
        "return n if n == 1 else 10": True,
        "return n if n == 0 else 11": False,
    }


def test_tests_that_fail_without_a_change_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.py").write_text("ONE = 2\n")
    (tmp_path / "test_one.py").write_text("from one import ONE\n\n\ndef test_it():\n    assert ONE == 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match=r"^test_one\.py fails already without a change of one\.py$"):
        list(run({"one.py": ["test_one.py"]}, jobs=1))


def result(after: str, *, noticed: bool) -> Result:
    return Result(
        file="a.py", mutant=Mutant(line=7, scope="f", before="x = 1", after=after, source=""), noticed=noticed
    )


@pytest.mark.parametrize(
    ("explained", "noticed", "must_be_done", "lines"),
    [
        ([], 9, True, ["a.py:7 f", "    x = 1", "    x = 2"]),
        (["x = 2"], 9, False, []),
        (["x = 2"], 8, True, []),  # explained, but fewer than nine of ten were noticed
        (["x = 2", "x = 3"], 9, True, ["a.py f: explained, but noticed or gone: x = 3"]),
    ],
)
def test_what_must_be_done(explained: list[str], noticed: int, must_be_done: bool, lines: list[str]) -> None:
    results = [result("x = 2", noticed=False)] + [result(f"y = {n}", noticed=True) for n in range(noticed)]
    table = Table(tests={"a.py": []}, explained={("a.py", "f", "x = 1", after): "no reason" for after in explained})
    said, failed = report(results, table)
    assert (said[:-2], failed) == (lines, must_be_done)
    assert said[-2].split() == [
        "a.py",
        str(noticed),
        "of",
        str(noticed + 1),
        "noticed",
        f"{noticed / (noticed + 1):.1%}",
    ]


def test_the_table_names_files_that_are_there_and_gives_reasons() -> None:
    table = Table.read()
    named = {Path(file) for file, tests in table.tests.items() for file in (file, *tests)}
    assert [file for file in sorted(named) if not file.is_file()] == []
    assert {file for file, *_ in table.explained} <= table.tests.keys()
    assert all(table.explained.values())

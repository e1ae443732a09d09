"""The public face: names, version, command; and one clear sentence where a foreign package has a name of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import autobackend
import selector
from calibration import errors

ROOT = Path(__file__).resolve().parent.parent


def python(*words: object, before: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """An interpreter outside of the project, which finds autobackend's folder on its path, `before` before it."""
    path = os.pathsep.join(str(folder) for folder in (before, ROOT) if folder)
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd="/",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_public_names_are_those_of_selector_and_the_errors() -> None:
    kinds: list[type[errors.AutobackendError]] = [errors.AutobackendError, *errors.kinds()]
    raised = {kind.__name__ for kind in kinds}
    assert set(autobackend.__all__) == {*selector.__all__, *raised, "ForeignPackage", "__version__", "main"}
    assert set(autobackend.__all__) <= set(dir(autobackend))
    assert all(getattr(autobackend, name) is getattr(selector, name) for name in selector.__all__)
    assert all(getattr(autobackend, name) is getattr(errors, name) for name in raised)
    assert autobackend.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="module 'autobackend' has no attribute 'nope'"):
        _ = autobackend.nope


def test_importing_it_imports_nothing_of_ours() -> None:
    code = "import autobackend, sys; print(sorted({'selector', 'calibration', 'click'} & set(sys.modules)))"
    assert python("-c", code).stdout == "[]\n"


def test_it_is_the_command() -> None:
    shown = python("-m", "autobackend", "select", "shape:gpt2", "--backend", "nothing")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("error: unknown backend 'nothing'\nknown are: ")
    assert python("-m", "autobackend", "--help").stdout.startswith("Usage: autobackend [OPTIONS] COMMAND [ARGS]...\n")


@pytest.fixture(params=["selector/__init__.py", "selector.py", "calibration/__init__.py"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of somebody else's package."""
    file = tmp_path / str(request.param)
    file.parent.mkdir(exist_ok=True)
    file.write_text("SELECTORS = ()\n")
    return file


@pytest.mark.parametrize("code", ["from autobackend import select", "import autobackend; autobackend.UsageError"])
def test_a_foreign_package_of_our_name_is_said(code: str, foreign: Path, tmp_path: Path) -> None:
    refused = python("-c", code, before=tmp_path)
    *_, what, mend = refused.stderr.splitlines()
    name = foreign.relative_to(tmp_path).parts[0].removesuffix(".py")
    place = foreign if foreign.name == "selector.py" else foreign.parent
    assert what == (
        f"autobackend.ForeignPackage: another package named {name!r} is found before autobackend's own: {place}"
    )
    assert mend.startswith("take it off PYTHONPATH and out of the working folder, uninstall it, or install autobackend")


def test_the_command_says_it_without_a_traceback(foreign: Path, tmp_path: Path) -> None:
    refused = python("-m", "autobackend", "select", "shape:gpt2", before=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    what, mend = refused.stderr.splitlines()
    assert what.startswith("error: another package named ") and str(tmp_path) in what
    assert mend.startswith("take it off PYTHONPATH")


def test_an_import_error_can_be_caught(foreign: Path, tmp_path: Path) -> None:
    code = "try:\n    from autobackend import select\nexcept ImportError as error:\n    print(error.name)"
    assert python("-c", code, before=tmp_path).stdout.strip() in {"selector", "calibration"}

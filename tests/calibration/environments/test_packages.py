"""Interpreters, what is installed in them, and what makes times comparable."""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from calibration.environments.config_file import backend_python, config_path
from calibration.environments.distributions import normalise, requirement_name
from calibration.environments.packages import installed, python_version, site_packages
from calibration.environments.versions import comparable_versions, differences
from calibration.errors import BackendError


class Packages:
    package = "lmdeploy"
    requires = ("lmdeploy>=0.18", "shortuuid", "Fake_Thing[extra]>=1; python_version > '3'")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty venv."""
    venv.create(tmp_path / "venv", symlinks=True)
    return tmp_path / "venv/bin/python"


@pytest.fixture
def environ() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def add(site: Path, name: str, version: str = "1") -> None:
    (site / f"{name}-{version}.dist-info").mkdir(parents=True)


def test_ours_is_what_importlib_finds() -> None:
    expected: dict[str, str] = {}
    for distribution in distributions():
        # The first on the path is the one that is imported; setuptools, once imported, has what it carries at the end.
        expected.setdefault(normalise(distribution.metadata["Name"]), distribution.version)
    assert installed(Path(sys.executable)) == expected


def test_a_venv_is_read_without_running_it(python: Path) -> None:
    site = python.parent.parent / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    assert site_packages(python) == (site,)
    assert installed(python) == {}
    add(site, "Torch_Thing.extra", "2.13.0+cpu")
    (site / "old-1.0-py3.11.egg-info").write_text("Name: old\nVersion: 1.0\n")
    (site / "develop.egg-info").mkdir()
    (site / "develop.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nName: develop\nVersion: 0.1.dev0\n")
    assert installed(python) == {"torch-thing-extra": "2.13.0+cpu", "old": "1.0", "develop": "0.1.dev0"}


def test_a_venv_agrees_with_its_own_interpreter(python: Path) -> None:
    run = subprocess.run(
        [python, "-c", "import sys; print('\\n'.join(p for p in sys.path if 'packages' in p))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [str(p) for p in site_packages(python)] == run.stdout.split()


def test_pth_files_add_their_folders(python: Path, tmp_path: Path) -> None:
    (site,) = site_packages(python)
    add(tmp_path / "linked", "linked", "3")
    (site / "more.pth").write_text(f"# comment\nimport os; os.getcwd()\n{tmp_path}/linked\n{tmp_path}/gone\n")
    assert site_packages(python) == (site, tmp_path / "linked")
    assert installed(python) == {"linked": "3"}


def test_system_site_packages_count_where_the_venv_says_so(python: Path) -> None:
    prefix = python.parent.parent / "home"
    name = f"python{python_version(python)}"
    add(prefix / "lib" / name / "site-packages", "shared", "1")
    add(prefix / "lib" / name / "site-packages", "both", "1")
    (site,) = site_packages(python)
    add(site, "both", "2")
    config = python.parent.parent / "pyvenv.cfg"
    text = config.read_text()
    home = text[text.index("home = ") :].partition("\n")[0]
    config.write_text(text.replace(home, f"home = {prefix}/bin"))
    assert installed(python) == {"both": "2"}
    config.write_text(config.read_text().replace("site-packages = false", "site-packages = true"))
    assert {k: v for k, v in installed(python).items() if k in {"both", "shared"}} == {"both": "2", "shared": "1"}


def test_pythonpath_is_inherited_and_comes_first(python: Path, tmp_path: Path, environ: None) -> None:
    add(tmp_path / "mine", "thing", "9")
    add(site_packages(python)[0], "thing", "1")
    os.environ["PYTHONPATH"] = str(tmp_path / "mine")
    assert installed(python) == {"thing": "9"}


def test_an_interpreter_beside_its_library(tmp_path: Path) -> None:
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text("")
    add(tmp_path / "lib/python3.12/site-packages", "torch", "2.4.0")
    assert python_version(python) == "3.12"
    assert tmp_path / "lib/python3.12/site-packages" in site_packages(python)
    assert installed(python)["torch"] == "2.4.0"


def test_an_interpreter_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        installed(tmp_path / "bin/python")
    assert caught.value.message == f"interpreter {tmp_path}/bin/python does not exist"
    assert caught.value.mend == f"name an existing one in {config_path()}"


def test_the_config_names_interpreters(tmp_path: Path, environ: None) -> None:
    config = tmp_path / "config.toml"
    os.environ["AUTOBACKEND_CONFIG"] = str(config)
    assert backend_python("turbomind") == Path(sys.executable)
    config.write_text(
        '[backends.turbomind]\npython = "/opt/lmdeploy/bin/python"\n[backends.near]\npython = "near/python"\n'
    )
    assert backend_python("turbomind") == Path("/opt/lmdeploy/bin/python")
    assert backend_python("near") == tmp_path / "near/python"
    assert backend_python("transformers") == Path(sys.executable)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[backends", "cannot be read: "),
        ("backends = 3", "backends must be a table; found 3"),
        ("[backends.turbomind]\npython = 3", "python of turbomind must be a path; found 3"),
        ("[backends.turbomind]\npython = ''", "python of turbomind must be a path; found ''"),
    ],
)
def test_a_config_that_says_something_else(tmp_path: Path, environ: None, content: str, message: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(content)
    os.environ["AUTOBACKEND_CONFIG"] = str(config)
    with pytest.raises(BackendError) as caught:
        backend_python("turbomind")
    assert caught.value.message.startswith(str(config))
    assert message in caught.value.message
    assert '[backends.turbomind], and in the next line python = "' in caught.value.mend


def test_the_config_in_the_users_folder(tmp_path: Path, environ: None) -> None:
    del os.environ["AUTOBACKEND_CONFIG"]
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path)
    assert config_path() == tmp_path / "autobackend/config.toml"
    assert backend_python("turbomind") == Path(sys.executable)


def test_comparable_versions_name_what_changes_the_speed(tmp_path: Path) -> None:
    versions = {
        "lmdeploy": "0.18.0",
        "torch": "2.13.0+cpu",
        "triton": "3.7.1",
        "fake-thing": "1.2",
        "pytest": "9.2.0",
        "flash-attn": "2.8.3",
    }
    assert comparable_versions(Packages(), versions, driver="570.1", threads=2) == {
        "lmdeploy": "0.18.0",
        "torch": "2.13.0+cpu",
        "triton": "3.7.1",
        "fake-thing": "1.2",
        "flash-attn": "2.8.3",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "driver": "570.1",
        "threads": "2",
    }
    assert comparable_versions(Packages(), {}, driver=None, threads=1, python=tmp_path / "python") == {
        "python": "unknown",
        "threads": "1",
    }


def test_differences() -> None:
    old = {"ctranslate2": "4.8.4", "torch": "2.13.0", "triton": "3.7.1"}
    new = {"ctranslate2": "4.8.5", "torch": "2.13.0", "flash-attn": "2.8.3"}
    assert differences(old, new) == [
        "ctranslate2 4.8.4 -> 4.8.5",
        "flash-attn absent -> 2.8.3",
        "triton 3.7.1 -> absent",
    ]
    assert differences(old, old) == []


@pytest.mark.parametrize(
    ("requirement", "name"),
    [("torch>=2.4", "torch"), ("Fake_Thing[x]>=1; python_version>'3'", "fake-thing"), ("a.b", "a-b")],
)
def test_requirement_name(requirement: str, name: str) -> None:
    assert requirement_name(requirement) == name

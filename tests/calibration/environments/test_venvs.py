"""Virtual environments: real virtual environments from tiny local packages; whole or not at all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calibration import backends
from calibration.environments.build import base_python
from calibration.environments.config_file import backend_python, name_interpreter, named_interpreters
from calibration.environments.packages import beside, installed
from calibration.environments.requirement_set import RequirementSet
from calibration.environments.venv import Verified
from calibration.environments.venvs import Venvs
from calibration.errors import BackendError, InstallError
from tests.toy_packages import offline, sdist, wheel

BASE = Path(sys.executable)
BACKENDS = Path(backends.__path__[0])


@pytest.fixture(autouse=True)
def environ(tmp_path: Path) -> Iterator[None]:
    """pip finds the test's own wheels and nothing else; a config file of the test's own."""
    before = dict(os.environ)
    os.environ |= {**offline(tmp_path / "wheels"), "AUTOBACKEND_CONFIG": str(tmp_path / "config" / "config.toml")}
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def venvs(tmp_path: Path) -> Venvs:
    return Venvs(tmp_path / "venvs")


def requirements(folder: Path, *lines: str) -> RequirementSet:
    (folder / "toy-cpu.txt").write_text("".join(f"{line}\n" for line in lines))
    read = RequirementSet.find("toy", "cpu", folder)
    assert read
    return read


def verified(python: Path, log: Path) -> Verified:
    """Runs the new interpreter, as a real verification does."""
    number = subprocess.check_output([python, "-c", "import toy_engine; print(toy_engine.NUMBER)"])
    return Verified(candidate="toy:plain", tokens=(int(number),), seconds=0.5, at=os.times().elapsed)


def make(
    venvs: Venvs,
    listed: RequirementSet,
    verify: Callable[[Path, Path], Verified] = verified,
    beside: tuple[str, ...] = (),
) -> list[str]:
    """Make the virtual environment of `toy`; returns the steps that `say` was called with."""
    steps: list[str] = []
    with venvs.locked("toy"):
        venvs.make(
            listed, BASE, verify, package="toy-engine", beside=beside, say=lambda what, now="": steps.append(what)
        )
    return steps


def left(venvs: Venvs) -> list[str]:
    return sorted(entry.name for entry in venvs.root.iterdir())


def test_a_venv_is_made_used_replaced_and_removed(venvs: Venvs, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "toy-engine", "1.0", "NUMBER = 7")
    wheel(tmp_path / "wheels", "toy-engine", "2.0", "NUMBER = 8")
    wheel(tmp_path / "wheels", "toy-other", "1.5")
    wheel(tmp_path / "wheels", "toy-converter", "0.3")
    steps = make(
        venvs, requirements(tmp_path, "toy-engine==1.0", "toy-other==1.5  # why"), beside=("toy-converter==0.3",)
    )
    assert list(dict.fromkeys(steps)) == [
        "making the environment", "installing 2 packages", "installing toy-converter==0.3", "verifying",
    ]  # fmt: skip
    venv = venvs.get("toy")
    assert venv
    assert venv.folder.name.startswith("toy-") and left(venvs) == sorted([venv.folder.name, "toy.lock", "toy.log"])
    assert (venv.version, venv.requirements, venv.base, venv.verified.tokens) == ("1.0", "toy-cpu", str(BASE), (7,))
    assert venv.bytes == sum(
        f.lstat().st_size for f in venv.folder.rglob("*") if f.is_file() and not f.is_symlink()
    ) - ((venv.folder / "venv.json").stat().st_size)
    versions = installed(venv.python)
    assert {name: versions.get(name) for name in ("toy-engine", "toy-other", "toy-converter")} == {
        "toy-engine": "1.0", "toy-other": "1.5", "toy-converter": None,
    }  # fmt: skip
    assert beside(venv.python, "toy-converter") == "0.3"
    assert backend_python("toy") == venv.python

    make(venvs, requirements(tmp_path, "toy-engine==2.0"))
    newer = venvs.get("toy")
    assert newer and (newer.version, newer.verified.tokens, newer.folder != venv.folder) == ("2.0", (8,), True)
    assert not venv.folder.exists() and backend_python("toy") == newer.python
    # Its name in earlier versions.
    (newer.folder / "venv.json").rename(newer.folder / "room.json")
    assert venvs.get("toy") == newer

    with venvs.locked("toy"):
        assert venvs.remove("toy") == newer
        assert venvs.remove("toy") is None
    assert (venvs.all(), left(venvs)) == ({}, ["toy.lock", "toy.log"])
    assert backend_python("toy") == BASE


def test_pips_own_reason_is_told_and_nothing_is_left(venvs: Venvs, tmp_path: Path) -> None:
    sdist(tmp_path / "wheels", "toy-broken", "1.0", "raise RuntimeError('toy-broken needs a Fortran compiler')")
    wheel(tmp_path / "wheels", "toy-engine", "1.0", "NUMBER = 7")
    with pytest.raises(InstallError) as missing:
        make(venvs, requirements(tmp_path, "toy-engine==1.0", "toy-missing==9"))
    assert missing.value.message.startswith("pip could not install toy-cpu: ")
    assert missing.value.message.endswith("No matching distribution found for toy-missing==9")
    assert missing.value.mend == f"all it said: {venvs.log('toy')}"
    assert "-m venv" in venvs.log("toy").read_text().splitlines()[0]
    with pytest.raises(InstallError, match="needs a Fortran compiler"):
        make(venvs, requirements(tmp_path, "toy-broken==1.0"))
    assert left(venvs) == ["toy.lock", "toy.log"]
    assert named_interpreters() == {}


def test_a_venv_that_does_not_verify_is_none(venvs: Venvs, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "toy-engine", "1.0", "NUMBER = 7")
    make(venvs, requirements(tmp_path, "toy-engine==1.0"))
    good = venvs.get("toy")
    wheel(tmp_path / "wheels", "toy-engine", "2.0", "import does_not_exist")
    with pytest.raises(subprocess.CalledProcessError):
        make(venvs, requirements(tmp_path, "toy-engine==2.0"))
    assert good and venvs.get("toy") == good
    assert left(venvs) == sorted([good.folder.name, "toy.lock", "toy.log"])
    assert backend_python("toy") == good.python


def test_local_versions_come_from_the_sets_own_index_where_no_other_has_them(venvs: Venvs, tmp_path: Path) -> None:
    apart = tmp_path / "index" / "toy-engine"
    file = wheel(apart, "toy-engine", "1.0+cpu", "NUMBER = 9")
    (apart / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>')
    wheel(tmp_path / "wheels", "toy-other", "1.5")
    # The other distribution is not on that index: it would not be found if it were looked for there alone.
    head = f"# index: {(tmp_path / 'index').as_uri()}"
    make(venvs, requirements(tmp_path, head, "toy-engine==1.0+cpu", "toy-other==1.5"))
    venv = venvs.get("toy")
    assert venv and (venv.version, venv.verified.tokens) == ("1.0+cpu", (9,))


def test_no_network_is_told(venvs: Venvs, tmp_path: Path) -> None:
    # pip says nothing of a connection that it does not retry.
    os.environ |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    with pytest.raises(InstallError, match="^pip could not install toy-cpu: no package index could be reached: "):
        make(venvs, requirements(tmp_path, "toy-engine==1.0"))


def test_a_full_disk_is_told_before_anything_is_done(venvs: Venvs, tmp_path: Path) -> None:
    huge = requirements(tmp_path, "# size: 1000000000000 MiB", "toy-engine==1.0")
    with pytest.raises(InstallError, match=r"^needs 1367187500\.0 GiB of free disk for toy-cpu; .* has \d+\.\d GiB\n"):
        make(venvs, huge)
    assert left(venvs) == ["toy.lock"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallError, match="cannot be used"):
        make(Venvs(tmp_path / "file" / "venvs"), requirements(tmp_path, "toy-engine==1.0"))


def test_a_folder_without_a_readable_manifest_is_no_venv(venvs: Venvs) -> None:
    for manifest in ("", "[]", "{}", '{"verified": 1}', json.dumps({"backend": "toy", "verified": {}})):
        folder = venvs.root / "toy-0123"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "venv.json").write_text(manifest)
        assert venvs.all() == {}
    with venvs.locked("toy"):
        venvs.sweep("toy")
    assert left(venvs) == ["toy.lock"]


def test_what_another_makes_is_not_swept(venvs: Venvs) -> None:
    for folder in ("toy-0123", "other-0123"):
        (venvs.root / folder).mkdir(parents=True)
    holding = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holding, str(venvs.root / "other.lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        with venvs.locked("toy"):
            venvs.sweep("toy")
        assert left(venvs) == ["other-0123", "other.lock", "toy.lock"]
        other.communicate(b"\n")
    with venvs.locked("toy"):
        venvs.sweep("toy")
    assert left(venvs) == ["other.lock", "toy.lock"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 3.9", "needs Python >= 3.11; {python} is 3.9"),
        ("echo kaputt >&2; exit 3", "{python} does not run: kaputt"),
        ("echo 3.12; echo 'No module named ensurepip'", "{python} cannot make environments: No module named ensurepip"),
    ],
)
def test_interpreters_that_make_no_environments(tmp_path: Path, script: str, message: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(InstallError) as refused:
        base_python(python)
    assert refused.value.message == message.format(python=python)


def test_this_interpreter_makes_environments() -> None:
    assert base_python(BASE) == f"{sys.version_info.major}.{sys.version_info.minor}"


OTHER = "# mine\n[backends.other]\npython = '/q'  # why\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[backends.toy]\npython = "/p"\n'),
        (OTHER, OTHER + '\n[backends.toy]\npython = "/p"\n'),
        ("[backends]\ntoy = '/q'\nother='/r'\n", "[backends]\ntoy = \"/p\"\nother='/r'\n"),
        ("[backends.toy]\n# mine\npython='/q'\n\n[x]\ny=1\n", '[backends.toy]\n# mine\npython="/p"\n\n[x]\ny=1\n'),
    ],
)
def test_the_users_config_file_stays_as_it_is(tmp_path: Path, before: str, after: str) -> None:
    target, link = tmp_path / "dotfiles.toml", tmp_path / "config" / "config.toml"
    link.parent.mkdir()
    target.write_text(before)
    target.chmod(0o600)
    link.symlink_to(target)
    name_interpreter("toy", Path("/p"))
    assert (target.read_text(), target.stat().st_mode & 0o777, link.is_symlink()) == (after, 0o600, True)
    assert backend_python("toy") == Path("/p") == named_interpreters()["toy"]
    name_interpreter("toy", None)
    assert backend_python("toy") == BASE
    assert "toy" not in named_interpreters()
    assert ("other" in before) == ("other" in target.read_text())


def test_a_config_file_that_is_none_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config.toml"
    path.parent.mkdir()
    path.write_text("[backends\n")
    with pytest.raises(BackendError, match="cannot be read"):
        name_interpreter("toy", Path("/p"))
    assert path.read_text() == "[backends\n"


@pytest.mark.parametrize("file", sorted(BACKENDS.rglob("requirements/*.txt")), ids=lambda f: f.stem)
def test_shipped_sets_are_exact(file: Path) -> None:
    backend, _, device = file.stem.rpartition("-")
    listed = RequirementSet.find(backend, device, file.parent)
    assert listed
    names = [pin.partition("==")[0].lower().replace("_", "-") for pin in listed.pins]
    assert len(set(names)) == len(names) > 20
    assert listed.bytes > 500 << 20
    assert bool(listed.index) == bool(listed.local) == (device == "cpu")
    assert listed.local in ((), ("torch==2.13.0+cpu",))


def test_a_set_with_a_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"needs name==version in every line; found 'toy>=1'$"):
        requirements(tmp_path, "toy>=1")

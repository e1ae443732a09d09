"""The rules about what is installed, each with its exact sentence."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.backend import Variant
from selector.demand import Demand
from selector.rules.judge import judge
from tests.selector.conftest import FakeBackend, host, installation
from tests.selector.rules.judging import reasons, small


def test_installed_missing() -> None:
    machine = host(installations={"fake": installation({})})
    mend = "/venv/bin/python -m pip install fake"
    assert reasons(FakeBackend(), machine=machine) == [("installed", "needs fake>=2; it is not installed", mend)]


def test_installed_in_our_own_interpreter_mends_with_plain_pip() -> None:
    machine = host(installations={"fake": installation({}, python=Path(sys.executable))})
    assert reasons(FakeBackend(), machine=machine)[0][2] == "pip install fake"


def test_installed_in_other_versions() -> None:
    machine = host(installations={"fake": installation({"fake": "2.0", "torch": "2.13.0+cpu", "old-thing": "1.9"})})
    backend = FakeBackend(requires=("fake>=2", "torch>=2.4,<2.14", "old_thing>=2,!=2.1.*", "shortuuid"))
    assert reasons(backend, machine=machine) == [
        (
            "installed",
            "needs old_thing>=2,!=2.1.*, shortuuid; old-thing 1.9 is installed, shortuuid is not installed",
            '/venv/bin/python -m pip install "old_thing>=2,!=2.1.*" "shortuuid"',
        )
    ]


def test_installed_where_the_interpreter_is_missing() -> None:
    machine = host(installations={"fake": installation({}, problem="interpreter /gone/python does not exist")})
    assert reasons(FakeBackend(), machine=machine) == [
        ("installed", "needs an interpreter; interpreter /gone/python does not exist", "")
    ]


def test_not_looked_for() -> None:
    assert reasons(FakeBackend(), machine=host(installations={})) == [
        ("installed", "needs an interpreter; where it runs was not looked for", "")
    ]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """site-packages whose fake/_fake.so needs libcublas.so.12 (in none), libinner.so and libc."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc to build shared objects")
    site = tmp_path / "site-packages"
    (site / "fake").mkdir(parents=True)
    build = tmp_path / "build"
    build.mkdir()
    (build / "empty.c").write_text("int nothing_at_all;\n")
    for soname in ("libcublas.so.12", "libinner.so"):
        run = ["gcc", "-shared", f"-Wl,-soname,{soname}", "-o", str(build / soname), str(build / "empty.c")]
        subprocess.run(run, check=True)
    libraries = [str(build / "libcublas.so.12"), str(build / "libinner.so")]
    target = ["-o", str(site / "fake/_fake.so"), str(build / "empty.c")]
    flags = [
        "-shared",
        "-Wl,--no-as-needed",
        "-Wl,-rpath,$ORIGIN/lib:$ORIGIN/../nvidia/cublas/lib",
        "-Wl,--enable-new-dtags",
    ]
    subprocess.run(["gcc", *flags, *target, *libraries], check=True)
    (site / "fake/lib").mkdir()
    shutil.move(build / "libinner.so", site / "fake/lib/libinner.so")
    return site


def test_importable_names_the_missing_library(wheel: Path) -> None:
    machine = host(installations={"fake": installation(site_packages=(wheel,))})
    backend = FakeBackend(libraries=("fake/_fake*.so",))
    assert reasons(backend, machine=machine) == [
        (
            "importable",
            "needs libcublas.so.12 to load _fake.so; libcublas.so.12: cannot open shared object file",
            "/venv/bin/python -m pip install nvidia-cublas-cu12",
        )
    ]
    (wheel / "nvidia/cublas/lib").mkdir(parents=True)
    shutil.move(wheel.parent / "build/libcublas.so.12", wheel / "nvidia/cublas/lib/libcublas.so.12")
    assert reasons(backend, machine=machine) == []


def test_importable_where_the_package_has_no_library(tmp_path: Path) -> None:
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    assert reasons(FakeBackend(libraries=("fake/_fake*.so",)), machine=machine) == [
        ("importable", "needs fake/_fake*.so of fake; the installed package has none", "pip install fake")
    ]


def test_importable_takes_what_is_no_elf_object(tmp_path: Path) -> None:
    (tmp_path / "_fake.so").write_bytes(b"\x7fELF, but torn")
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    assert reasons(FakeBackend(libraries=("_fake.so",)), machine=machine) == []


def test_packages_of_one_variant() -> None:
    backend = FakeBackend(Variant(name="int8", packages=("torchao>=0.15", "torch>=2.4")), Variant(name="plain"))
    machine = host(installations={"fake": installation({"fake": "2.0", "torch": "2.13.0+cpu", "torchao": "0.14.1"})})
    verdicts = judge(small(), machine, Demand(), {"fake": backend})
    assert [[(r.rule, r.text, r.mend) for r in v.reasons] for v in verdicts] == [
        [
            (
                "variant_packages",
                "needs torchao>=0.15; torchao 0.14.1 is installed",
                '/venv/bin/python -m pip install "torchao>=0.15"',
            )
        ],
        [],
    ]

"""The rules about what is installed, each with its exact sentence."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.backend import QuantFact, Variant
from calibration.environments.source_files import SourceFiles
from selector.demand.demand import Demand
from selector.host.spec import Installation, Known
from selector.model.quant.format import QuantFormat
from selector.rules.install import meets
from selector.rules.judge import judge
from tests.selector.conftest import FakeBackend, host, installation
from tests.selector.rules.judging import gpu, reasons, small


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


def built(folder: Path, soname: str, needs: tuple[str, ...]) -> Path:
    """A shared object that needs these libraries, which are nowhere."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc to build shared objects")
    build = folder / "build"
    build.mkdir(exist_ok=True)
    (build / "empty.c").write_text("int nothing_at_all;\n")
    for name in needs:
        run = ["gcc", "-shared", f"-Wl,-soname,{name}", "-o", str(build / name), str(build / "empty.c")]
        subprocess.run(run, check=True)
    libraries = [str(build / name) for name in needs]
    target = ["-o", str(folder / soname), str(build / "empty.c")]
    subprocess.run(["gcc", "-shared", "-Wl,--no-as-needed", *target, *libraries], check=True)
    shutil.rmtree(build)
    return folder / soname


def test_what_carries_the_missing_libraries_is_the_mend(tmp_path: Path) -> None:
    needs = (
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcudart.so.12",
        "libcudnn.so.9",
        "libcurand.so.10",
        "libnccl.so.2",
        "libcuda.so.1",
        "libnvidia-ml.so.1",
        "libown.so.3",
    )
    built(tmp_path, "_fake.so", needs)
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    assert reasons(FakeBackend(libraries=("_fake.so",)), machine=machine) == [
        (
            "importable",
            f"needs {', '.join(needs)} to load _fake.so; libcublas.so.12: cannot open shared object file",
            (
                "/venv/bin/python -m pip install nvidia-cublas-cu12 nvidia-cuda-runtime-cu12 nvidia-cudnn-cu12"
                " nvidia-curand-cu12 nvidia-nccl-cu12; install the NVIDIA driver"
            ),
        )
    ]


@pytest.mark.parametrize(
    ("needs", "mend"),
    [
        (("libnvidia-ml.so.1",), "install the NVIDIA driver"),
        (("libcuda.so.1",), "install the NVIDIA driver"),
        (("libcublasLt.so.12",), "/venv/bin/python -m pip install nvidia-cublas-cu12"),
        (("libown.so.3",), ""),
    ],
)
def test_each_missing_library_has_its_own_mend(needs: tuple[str, ...], mend: str, tmp_path: Path) -> None:
    built(tmp_path, "_fake.so", needs)
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    assert [offered for _, _, offered in reasons(FakeBackend(libraries=("_fake.so",)), machine=machine)] == [mend]


def test_the_first_library_by_name_is_the_one_that_is_named(tmp_path: Path) -> None:
    for name in ("_fake_c.so", "_fake_a.so", "_fake_b.so"):
        built(tmp_path, name, ("libown.so.3",))
    machine = host(installations={"fake": installation(site_packages=(tmp_path,))})
    assert [text for _, text, _ in reasons(FakeBackend(libraries=("_fake_*.so",)), machine=machine)] == [
        "needs libown.so.3 to load _fake_a.so; libown.so.3: cannot open shared object file"
    ]


@pytest.mark.parametrize(
    ("of_wheel", "of_variant", "features", "text"),
    [
        (set(), set(), set(), None),
        ({"avx2"}, set(), {"avx2"}, None),
        ({"avx2"}, set(), {"sse4_2", "avx"}, "needs a CPU with avx2; found avx sse4_2"),
        ({"avx2"}, {"avx512f"}, {"avx2"}, "needs a CPU with avx512f; found avx2"),
        ({"f16c", "avx2", "fma", "avx"}, {"bmi2"}, set(),
         "needs a CPU with avx and avx2 and bmi2 and f16c and fma; found none that matters"),
        ({"avx2|neon"}, set(), {"neon"}, None),
        ({"avx2|neon"}, set(), {"sve"}, "needs a CPU with avx2 or neon; found sve"),
        ({"avx2"}, set(), {"f16c", "fma", "avx", "bmi2"}, "needs a CPU with avx2; found avx bmi2 f16c fma"),
    ],
)  # fmt: skip
def test_machine_code_needs_its_instructions(
    of_wheel: set[str], of_variant: set[str], features: set[str], text: str | None
) -> None:
    backend = FakeBackend(Variant(name="plain", cpu_features=frozenset(of_variant)), cpu_features=frozenset(of_wheel))
    machine = host(cpu_features=frozenset(features))
    assert reasons(backend, machine=machine) == ([("instruction_set", text, "")] if text else [])


def test_the_instructions_of_the_cpu_matter_to_what_runs_on_it() -> None:
    backend = FakeBackend(cpu_features=frozenset({"avx10"}))
    assert reasons(backend, machine=gpu(cpu_features=frozenset())) == []
    elsewhere = FakeBackend(cpu_features=frozenset({"avx10"}), devices=frozenset({"cuda"}))
    assert [rule for rule, _, _ in reasons(elsewhere)] == ["device_kind"]


ONLY_FAKE = {"fake": "2.0"}


@pytest.mark.parametrize(
    ("found", "needs_more"),
    [
        (installation(ONLY_FAKE), True),
        (installation({}), False),  # the backend itself is missing: that is the reason
        (installation(ONLY_FAKE, problem="interpreter /gone/python does not exist"), False),
        (installation({}, problem="interpreter /gone/python does not exist"), False),
    ],
)
@pytest.mark.parametrize(
    ("rule", "variant", "text"),
    [
        ("variant_packages", Variant(name="plain", packages=("one>=1", "two")),
         "needs one>=1, two; one is not installed, two is not installed"),
        ("prepare_packages", Variant(name="plain", prepares=True),
         "needs one>=1, two to convert the model; one is not installed, two is not installed"),
    ],
)  # fmt: skip
def test_further_packages_matter_where_the_backend_is_installed(
    rule: str, variant: Variant, text: str, found: Installation, needs_more: bool
) -> None:
    backend = FakeBackend(variant, prepare_requires=("one>=1", "two"))
    told = [told for told in reasons(backend, machine=host(installations={"fake": found})) if told[0] == rule]
    assert told == ([(rule, text, '/venv/bin/python -m pip install "one>=1" "two"')] if needs_more else [])


def test_a_variant_that_converts_nothing_needs_nothing_to_convert() -> None:
    backend = FakeBackend(Variant(name="plain"), prepare_requires=("one>=1",), beside=("two==1.0",))
    assert reasons(backend) == []


@pytest.mark.parametrize(
    ("kept_apart", "text"),
    [
        (None, "it is not installed"),
        ("0.9", "0.9 is installed"),
        ("1.0", None),
    ],
)
def test_a_converter_that_is_kept_apart_is_there_in_its_exact_version(
    kept_apart: str | None, text: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "share/autobackend/a-converter"
    if kept_apart:
        metadata = folder / f"a_converter-{kept_apart}.dist-info/METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: a-converter\nVersion: {kept_apart}\n")
    python = tmp_path / "bin/python"
    backend = FakeBackend(Variant(name="plain", prepares=True), beside=("a-converter==1.0",))
    machine = host(installations={"fake": installation(ONLY_FAKE, python=python)})
    mend = f"{python} -m pip install --no-deps --upgrade --target {folder} a-converter==1.0"
    reason = ("prepare_packages", f"needs a-converter==1.0 in {folder} to convert the model; {text}", mend)
    assert reasons(backend, machine=machine) == ([reason] if text else [])


@pytest.mark.parametrize(
    ("installed", "kept_apart", "text"),
    [
        ("2.0", None, "needs a-converter of fake 2.0 in {folder} to convert the model; it is not installed"),
        ("2.0", "1.9", "needs a-converter of fake 2.0 in {folder} to convert the model; 1.9 is installed"),
        ("2.0", "2.0", None),
        ("2.0+cu128", "2.0", None),
        ("2.2", "2.0",
         "needs a-converter of fake 2.2, whose hash is not known here (those of 2.0 and 2.1 are); 2.0 is installed"),
    ],
)  # fmt: skip
def test_files_of_the_source_distribution_are_those_of_the_installed_version(
    installed: str, kept_apart: str | None, text: str | None, tmp_path: Path
) -> None:
    hashes = tmp_path / "sources.json"
    hashes.write_text('{"2.0": "aa", "2.1": "bb"}')
    files = SourceFiles(name="a-converter", hashes=hashes, folder="inner", patterns=("*.py",), takes="a second")
    folder, python = tmp_path / "share/autobackend/a-converter", tmp_path / "bin/python"
    if kept_apart:
        (folder / f"a_converter-{kept_apart}.dist-info").mkdir(parents=True)
    backend = FakeBackend(Variant(name="plain", prepares=True), source_files=files)
    machine = host(installations={"fake": installation({**ONLY_FAKE, "fake": installed}, python=python)})
    fetched = "autobackend backends fetch fake"
    mend = f'{python} -m pip install "fake==2.1"' if installed == "2.2" else fetched
    reason = ("prepare_packages", text.format(folder=folder), mend) if text else None
    assert reasons(backend, machine=machine) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("requirement", "version", "met"),
    [
        ("one>=2", "2.0", True),
        ("one>=2", "1.9", False),
        ("one>=2", None, False),
        ("one>=2", "2.1rc1", True),  # a pre-release counts as it is
        ("one>=2", "2.0+cpu", True),
        ("one", "no version at all", True),
        ("one>=2", "no version at all", False),
        ("one; python_version < '3'", None, True),  # not for this interpreter
        ("one; python_version >= '3'", None, False),
        ("one>=2; python_version >= '3'", "1.0", False),
        ("not a requirement !", "1.0", True),
        ("not a requirement !", None, False),
    ],
)
def test_what_meets_a_requirement(requirement: str, version: str | None, met: bool) -> None:
    assert meets(requirement, version) is met


FILES = FakeBackend(
    Variant(name="plain", prepares=True, packages=("extra>=1",)),
    libraries=("fake/_fake*.so",),
    prepare_requires=("converter>=1",),
    beside=("apart==1.0",),
    quants=(QuantFact(method="awq", packages=("kernels>=1",)),),
)


def test_what_nobody_says_of_another_machine_is_taken_for_installed() -> None:
    machine = host(installations={"fake": installation({}, known=Known.ASSUMED)})
    assert reasons(FILES, small(quant=QuantFormat(method="awq", bits=4)), machine) == []


def test_what_a_file_tells_of_another_machine_is_judged_and_its_libraries_are_not_looked_for() -> None:
    there = {"fake": "2.0", "extra": "1.0", "converter": "1.0", "kernels": "1.0"}
    machine = host(installations={"fake": installation(there, known=Known.TOLD)})
    model = small(quant=QuantFormat(method="awq", bits=4))
    assert reasons(FILES, model, machine) == []
    older = host(installations={"fake": installation({"fake": "1.0", "extra": "0.1"}, known=Known.TOLD)})
    assert reasons(FILES, model, older) == [
        ("installed", "needs fake>=2; fake 1.0 is installed", 'pip install "fake>=2"'),
        ("quant_packages", "needs kernels>=1 for awq; it is not installed", 'pip install "kernels>=1"'),
        ("variant_packages", "needs extra>=1; extra 0.1 is installed", 'pip install "extra>=1"'),
        (
            "prepare_packages",
            "needs converter>=1 to convert the model; converter is not installed",
            'pip install "converter>=1"',
        ),
    ]

"""Tiny wheels and source distributions for pip, made on the spot, and a backend whose engine is one of them."""

import io
import os
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Mapping
from pathlib import Path

SLOW_BUILD = """
    import os, pathlib, time
    pathlib.Path({started!r} + ".part").write_text(str(os.getpid()))
    os.rename({started!r} + ".part", {started!r})
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.02)
"""

BACKEND = '''
"""A backend for tests: its engine is the distribution toy-engine."""

import json
import sys
import time
from pathlib import Path

from calibration.backend import Backend, Engine, Facts, Generation, Variant
from calibration.environments.distributions import beside_folder


class ToyEngine(Engine):
    def generate(self, prompts, new_tokens):
        import toy_engine

        began = time.perf_counter()
        rows = [tuple(toy_engine.next_token(p, i) for i in range(new_tokens)) for p in prompts]
        times = tuple(time.perf_counter() - began for _ in range(new_tokens))
        return Generation(tokens=tuple(rows), arrivals=(times,) * len(rows))

    def score(self, prompt, continuation):
        return None


class Toy(Backend):
    name = "toy"
    facts = Facts(
        title="Toy", url="https://example.org/toy", package="toy-engine", requires=("toy-engine>=1",),
        install="pip install toy-engine", devices=frozenset({"cpu"}), beside=("toy-converter==1.0",), order=5,
    )
    variants = (Variant(name="plain", prepares=True),)

    def prepare(self, job, destination, say):
        sys.path.insert(0, str(beside_folder(Path(sys.executable), "toy-converter")))
        import toy_converter

        vocabulary = json.loads((job.model_dir / "config.json").read_text())["vocab_size"]
        (destination / "model").write_text(toy_converter.convert(vocabulary))

    def load(self, job):
        assert (job.artifact_dir / "model").read_text() == "1024"
        return ToyEngine()
'''

ELSEWHERE = '''
"""A backend for devices that no test host has."""

from dataclasses import replace

from toy_backend import Toy


class Elsewhere(Toy):
    name = "elsewhere"
    facts = replace(Toy.facts, devices=frozenset({"camb"}), order=6)
'''


def wheel(folder: Path, name: str, version: str, source: str = "") -> Path:
    """A wheel with one module, called as the distribution is."""
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    about = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": textwrap.dedent(source),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def sdist(folder: Path, name: str, version: str, building: str) -> Path:
    """A source distribution that builds itself, without setuptools; `building` is run before its wheel is there."""
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}.tar.gz"
    here = str(Path(__file__).resolve().parents[1])
    backend = f"""
        import sys

        def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
            building()
            sys.path.insert(0, {here!r})
            from pathlib import Path
            from tests.toy_packages import wheel
            return wheel(Path(wheel_directory), {name!r}, {version!r}, "").name

        def building():
        """
    body = textwrap.indent(textwrap.dedent(building).strip("\n"), "    ")
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n',
        "own.py": textwrap.dedent(backend).rstrip() + "\n" + body + "\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{module}-{version}/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def offline(wheels: Path) -> dict[str, str]:
    """Variables by which pip finds `wheels` and nothing else."""
    index = wheels / "empty-index"
    index.mkdir(parents=True, exist_ok=True)
    return {
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.as_uri(), "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": str(wheels), "PIP_NO_CACHE_DIR": "1", "PIP_RETRIES": "0",
    }  # fmt: skip


class ToyPackage:
    """A folder for PYTHONPATH: somebody else's package that announces the backends `toy` and `elsewhere`."""

    def __init__(self, root: Path) -> None:
        self.root, self.wheels = root, root / "wheels"
        about = root / "toy_backend-1.dist-info"
        about.mkdir(parents=True)
        (root / "toy_backend.py").write_text(BACKEND)
        (root / "elsewhere_backend.py").write_text(ELSEWHERE)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-backend\nVersion: 1\n")
        (about / "entry_points.txt").write_text(
            "[autobackend.backends]\ntoy = toy_backend:Toy\nelsewhere = elsewhere_backend:Elsewhere\n"
        )
        self.requires("toy-engine==1.0")
        self.engine("return (sum(prompt) + place) % 1024")
        wheel(self.wheels, "toy-converter", "1.0", "def convert(size):\n    return str(size)\n")

    def requires(self, *lines: str) -> Path:
        """Write the requirement set."""
        file = self.root / "requirements" / "toy-cpu.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    def engine(self, answer: str, version: str = "1.0") -> None:
        """Put the engine's wheel there."""
        wheel(self.wheels, "toy-engine", version, f"def next_token(prompt, place):\n    {answer}\n")

    def variables(self, environments: Path) -> Mapping[str, str]:
        """Environment of a process in which the backends are known."""
        return {
            **os.environ, **offline(self.wheels), "PIP_NO_INDEX": "1", "PYTHONPATH": str(self.root),
            "AUTOBACKEND_ENVIRONMENTS": str(environments), "AUTOBACKEND_CONFIG": str(environments / "config.toml"),
        }  # fmt: skip


def command(*words: object) -> list[str]:
    """`autobackend WORDS`, by this interpreter."""
    # A shell lets its background jobs ignore Ctrl-C, and their children after them: a test may be such a child.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from selector.cli import main; main(prog_name='autobackend')"
    return [sys.executable, "-c", code, *map(str, words)]

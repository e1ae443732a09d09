"""A loaded engine in another interpreter: a program of a user's, and an engine that lives in a real second venv."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import venv
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from calibration.environments.distributions import beside_folder
from tests.engines.printed_commands import family
from tests.toy_packages import ToyPackage

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 120
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32", "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 1024, "max_position_embeddings": 128,
}  # fmt: skip

BEGIN = """
import json, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore Ctrl-C
from autobackend import select
choice = select(sys.argv[1], backend="toy", workload="pp8:tg8:b2")
"""


class Machine:
    """A user's machine: the package that brings `toy`, whose engine is in a venv that is not ours, and a model."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.toy = ToyPackage(root / "package")
        self.python = root / "venv" / "bin" / "python"
        venv.create(root / "venv", symlinks=True)
        [packages] = (root / "venv").glob("lib/python3*/site-packages")
        self._unpack("toy_engine-1.0", packages)
        self._unpack("toy_converter-1.0", beside_folder(self.python, "toy-converter"))
        environments = root / "environments"
        environments.mkdir()
        (environments / "config.toml").write_text(f"[backends.toy]\npython = {json.dumps(str(self.python))}\n")
        self.model = root / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text(json.dumps(CONFIG))
        (self.model / "model.safetensors").write_bytes(b"weights")
        self.started: list[subprocess.Popen[str]] = []

    def engine(self, answer: str) -> None:
        """Let the engine answer otherwise."""
        self.toy.engine(answer)
        [packages] = (self.root / "venv").glob("lib/python3*/site-packages")
        self._unpack("toy_engine-1.0", packages)

    def converter(self, does: str) -> None:
        (beside_folder(self.python, "toy-converter") / "toy_converter.py").write_text(
            f"def convert(size):\n    {does}\n"
        )

    def _unpack(self, wheel: str, folder: Path) -> None:
        with zipfile.ZipFile(self.toy.wheels / f"{wheel}-py3-none-any.whl") as archive:
            archive.extractall(folder)

    @property
    def variables(self) -> Mapping[str, str]:
        return {
            **self.toy.variables(self.root / "environments"),
            "PYTHONPATH": f"{self.toy.root}{os.pathsep}{ROOT}",
            "AUTOBACKEND_CACHE": str(self.root / "cache.db"),
            "AUTOBACKEND_ARTIFACTS": str(self.root / "artifacts"),
        }

    def start(self, program: str) -> "subprocess.Popen[str]":
        """A user's program, in a session of its own; `choice` is a selection of the toy backend."""
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", BEGIN + textwrap.dedent(program), str(self.model)],
            cwd=self.root, env=self.variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, program: str) -> Any:
        """What such a program prints as JSON."""
        process = self.start(program)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        return json.loads(out)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for process in made.started:  # of a test that failed
        if process.poll() is None:
            process.kill()
            process.communicate()


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def workers(folder: Path) -> list[int]:
    """Living processes of an interpreter of this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].startswith(os.fsencode(folder / "venv")):
            found.append(int(entry.name))
    return found


def test_it_generates_and_streams_and_ends(machine: Machine) -> None:
    told = machine.run("""
        with choice.load(max_context_tokens=32) as engine:
            made = engine.generate([[1, 2, 3], [4, 5]], 4)
            deltas = list(engine.stream([1, 2, 3], 4))
            print(json.dumps({
                "label": choice.candidate.label,
                "tokens": made.tokens,
                "rise": [list(row) == sorted(row) and row[0] > 0 for row in made.arrivals],
                "streamed": [token for delta in deltas for token in delta.tokens],
                "finish": deltas[-1].finish,
                "ended": [token for delta in engine.stream([1, 2, 3], 4, end_tokens=[8]) for token in delta.tokens],
                "scores": engine.score([1], [2]),
                "abilities": sorted(engine.abilities),
            }))
    """)
    assert told == {
        "label": "toy:plain",
        "tokens": [[6, 7, 8, 9], [9, 10, 11, 12]],
        "rise": [True, True],
        "streamed": [6, 7, 8, 9],
        "finish": "length",
        "ended": [6, 7, 8],
        "scores": None,
        "abilities": [],
    }
    assert workers(machine.root) == []


def test_it_is_converted_once(machine: Machine) -> None:
    program = """
        with choice.load() as engine:
            print(json.dumps(engine.generate([[1]], 2).tokens))
    """
    assert machine.run(program) == [[1, 2]]
    machine.converter("raise RuntimeError('converted again')")
    assert machine.run(program) == [[1, 2]]


def test_threads_ask_side_by_side(machine: Machine) -> None:
    told = machine.run("""
        engine = choice.load(max_context_tokens=32)
        found = {}
        def ask(first):
            found[first] = [token for delta in engine.stream([first], 3) for token in delta.tokens]
        threads = [threading.Thread(target=ask, args=(first,)) for first in range(1, 9)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        engine.close()
        engine.close()
        print(json.dumps(found))
    """)
    assert told == {str(first): [first, first + 1, first + 2] for first in range(1, 9)}
    assert workers(machine.root) == []


def test_what_cannot_be_asked_is_refused(machine: Machine) -> None:
    told = machine.run("""
        from autobackend import BackendError, UsageError
        errors = []
        def wrong(ask):
            try:
                ask()
            except (BackendError, UsageError) as error:
                errors.append([type(error).__name__, str(error)])
        engine = choice.load(max_context_tokens=16)
        wrong(lambda: engine.stream([1], 2, temperature=0.5))
        wrong(lambda: engine.generate([[1] * 15], 2))
        engine.close()
        wrong(lambda: engine.generate([[1]], 2))
        print(json.dumps(errors))
    """)
    model = str(machine.model)
    long = (
        "toy:plain was loaded for 16 tokens; found a prompt of 15 and 2 new ones\n"
        "load it for more: load(max_context_tokens=17)"
    )
    assert told == [
        ["UsageError", "toy:plain has no temperature when it streams"],
        ["UsageError", long],
        ["BackendError", f"toy:plain with {model} has ended: it was closed\nload it again: select(...).load()"],
    ]


def test_a_worker_that_dies_is_an_error_and_nothing_waits(machine: Machine) -> None:
    machine.engine("import time; time.sleep(60)")
    told = machine.run(f"""
        from autobackend import BackendError
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from tests.selector.loading.test_elsewhere import workers
        engine = choice.load()
        def kill():
            time.sleep(0.5)
            for pid in workers(Path({str(machine.root)!r})):
                os.kill(pid, 9)
        threading.Thread(target=kill).start()
        errors = []
        for ask in (lambda: list(engine.stream([1], 2)), lambda: engine.generate([[1]], 2)):
            try:
                ask()
            except BackendError as error:
                errors.append(error.message)
        engine.close()
        print(json.dumps(errors))
    """)
    assert len(told) == 2
    assert told[0].startswith(f"toy:plain with {machine.model} has ended: killed by SIGKILL")
    assert workers(machine.root) == []


def test_an_engine_that_cannot_be_loaded_says_why(machine: Machine) -> None:
    machine.converter("raise RuntimeError('this converter is broken')")
    told = machine.run("""
        from autobackend import BackendError
        try:
            choice.load()
        except BackendError as error:
            print(json.dumps([error.message, error.mend]))
    """)
    message, mend = told
    assert message.startswith(f"toy:plain cannot load {machine.model} in {machine.python}: ")
    assert "this converter is broken" in message
    assert mend == (
        f"see its log: autobackend calibrate {machine.model} --workload pp8:tg8:b2 --backends toy:plain --again"
    )
    assert workers(machine.root) == []


@pytest.mark.parametrize("how", ["it ends", "it is interrupted", "it is killed", "it forgets the engine"])
def test_the_worker_ends_with_the_program(how: str, machine: Machine) -> None:
    last = {
        "it ends": "pass",
        "it forgets the engine": "import gc; del engine; gc.collect()\nprint('gone', flush=True)\ntime.sleep(60)",
    }.get(how, "time.sleep(60)")
    process = machine.start(f"engine = choice.load()\nprint('loaded', flush=True)\n{last}")
    assert process.stdout is not None
    assert process.stdout.readline() == "loaded\n"
    if how == "it ends":
        assert process.wait(PATIENCE_S) == 0
    elif how == "it forgets the engine":
        assert process.stdout.readline() == "gone\n"
        assert workers(machine.root) == []
        process.kill()
    else:
        assert len(workers(machine.root)) >= 1
        process.send_signal(signal.SIGINT if how == "it is interrupted" else signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    eventually(lambda: workers(machine.root) == [])
    assert family(process.pid) == []

"""The program in a process of its own: its exit codes, a reader that leaves, an interrupt."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.selector.commands.calling import MODEL, PROMISING, ROOT, program


def test_a_reader_that_leaves_is_no_error(path: Path) -> None:
    code = "from selector.cli import main; main(prog_name='autobackend')"
    words = [sys.executable, "-c", code, "cache", "export", "--cache", str(path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout and running.stderr
        running.stdout.close()
        said = running.stderr.read().decode()
    assert "Traceback" not in said and "Broken" not in said
    assert running.returncode in {0, 1}


def test_the_program_in_a_process_of_its_own(path: Path) -> None:
    found = program("select", MODEL, "--cache", path)
    assert (found.returncode, found.stdout) == (0, "transformers:sdpa\n")
    assert PROMISING.fullmatch(found.stderr)
    failed = program("select", MODEL, "--backend", "turbomind")
    assert (failed.returncode, failed.stdout) == (6, "")
    assert failed.stderr.startswith("error: turbomind cannot run ")


def test_an_interrupt_is_exit_code_130(tmp_path: Path) -> None:
    """Ctrl-C while the command waits for its input; what it did before stands."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"format": "autobackend-cache", "version": 2}\n')
    # A shell lets its background jobs ignore Ctrl-C, and their children after them: this test may be such a child.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from selector.cli import main; main(prog_name='autobackend')"
    words = [sys.executable, "-c", code, "cache", "import", str(file), "-", "--cache", str(tmp_path / "cache.db")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout and running.stderr
        assert running.stdout.readline() == f"{file}: 0 launches added, 0 known already\n"
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert (running.returncode, said.strip()) == (130, "interrupted; what was measured is kept")

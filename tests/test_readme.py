"""The README's tables, --help blocks and example backend are the program's own.

`python -m tests.test_readme`, from the root, writes the tables and --help blocks anew.
"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration import errors
from calibration.backend import Backend
from calibration.workload import STANDARD
from selector.cli import main
from selector.rules import rules_table

README = Path(__file__).resolve().parent.parent / "README.md"
SECTION = re.compile(r"(<!-- (workloads|rules|exit codes) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HELP = re.compile(r"(```\n\$ autobackend ([a-z ]*)--help\n)(.*?)(```\n)", re.DOTALL)
EXAMPLE = re.compile(r"<!-- backend -->\n```python\n(.*?)```\n", re.DOTALL)


def workloads_table() -> str:
    rows = [f"| `{name}` | `{workload.label}` |" for name, workload in STANDARD.items()]
    return "\n".join(["| name | workload |", "| --- | --- |", *rows, ""])


def rules_section() -> str:
    rows = [f"| `{name}` | {sentence} |" for name, sentence in rules_table()]
    return "\n".join(["| rule | what must hold |", "| --- | --- |", *rows, ""])


def exit_codes_table() -> str:
    kinds = sorted(errors.AutobackendError.__subclasses__(), key=lambda kind: kind.exit_code)
    rows = [f"| {kind.exit_code} | `{kind.__name__}` | {(kind.__doc__ or '').strip()} |" for kind in kinds]
    head = ["| exit code | error | meaning |", "| --- | --- | --- |", "| 0 | | It did what was asked. |"]
    return "\n".join([*head, *rows, ""])


def help_screen(command: str) -> str:
    return CliRunner().invoke(main, [*command.split(), "--help"], prog_name="autobackend", terminal_width=100).output


def renewed(readme: str) -> str:
    """The README with every generated part as the program has it now."""
    sections = {"workloads": workloads_table, "rules": rules_section, "exit codes": exit_codes_table}
    readme = SECTION.sub(lambda found: found[1] + sections[found[2]]() + found[4], readme)
    return HELP.sub(lambda found: found[1] + help_screen(found[2]) + found[4], readme)


@pytest.mark.parametrize("name", ["workloads", "rules", "exit codes"])
def test_tables_are_the_programs_own(name: str) -> None:
    text = README.read_text()
    shown = {found[2]: found[0] for found in SECTION.finditer(text)}
    due = {found[2]: found[0] for found in SECTION.finditer(renewed(text))}
    assert shown[name] == due[name]


def test_help_blocks_are_the_programs_own() -> None:
    shown = {found[2].strip(): found[3] for found in HELP.finditer(README.read_text())}
    assert shown == {command: help_screen(command) for command in shown}
    assert {"", "calibrate", "select", "explain", "publish", "cache", "artifacts"} <= shown.keys()


def test_every_command_is_named() -> None:
    text = README.read_text()
    assert [name for name in main.commands if f"autobackend {name}" not in text] == []


def test_example_backend_is_complete(tmp_path: Path) -> None:
    backend = example_backend(tmp_path)
    assert (backend.name, [v.name for v in backend.variants]) == ("generate", ["sdpa"])
    assert backend.command(backend.variant("sdpa"), "org/model", None) == "transformers serve org/model"


def example_backend(folder: Path) -> Backend:
    found = EXAMPLE.search(README.read_text())
    assert found
    source = folder / "generate_backend.py"
    source.write_text(found[1])
    spec = importlib.util.spec_from_file_location("generate_backend", source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    backend: Backend = module.Generate()
    return backend


if __name__ == "__main__":
    sys.exit(README.write_text(renewed(README.read_text())) == 0)

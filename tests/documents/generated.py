"""The parts of README and docs that the program itself writes.

`make docs` (`python -m tests.documents`) writes them anew; test_docs.py compares them.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from click.testing import CliRunner

import autobackend
from benchmarks.rule_truth.report import before_sentence, matrix
from calibration import errors
from calibration.backend import Backend
from calibration.cache import exchange
from calibration.engine.streams import Streams
from calibration.environments.requirement_set import RequirementSet
from calibration.load.load import STANDARD as LOADS
from calibration.registry import all_backends, source_file
from calibration.workload import STANDARD
from selector.cli import main
from selector.demand.objective import Objective
from selector.emit.targets import find_target, target_names
from selector.machines.public_machines import PublicMachine
from selector.machines.what_if import library
from selector.screens.text import size
from tests.documents.readme_prediction import prediction_screen

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"(<!-- ([a-z]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HELP = re.compile(r"(```\n\$ autobackend ([a-z ]*)--help\n)(.*?)(```\n)", re.DOTALL)


def documents() -> list[Path]:
    """Every Markdown file that is written by hand; the changelog tells of what was and is not among them."""
    found = [file for pattern in ("*.md", "docs/*.md", "benchmarks/*.md") for file in sorted(ROOT.glob(pattern))]
    return [file for file in found if file.name != "CHANGELOG.md"]


def printed(*words: str) -> str:
    """What `autobackend WORDS` prints, 100 columns wide."""
    result = CliRunner().invoke(main, words, prog_name="autobackend", terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.stdout


def renewed(text: str) -> str:
    """A document with every generated part as the program has it now."""

    def section(match: re.Match[str]) -> str:
        write = SECTIONS.get(match[2])
        return match[1] + write() + match[4] if write else match[0]

    def help_block(match: re.Match[str]) -> str:
        return match[1] + printed(*match[2].split(), "--help") + match[4]

    return HELP.sub(help_block, SECTION.sub(section, text))


def workloads_table() -> str:
    return table(("name", "workload"), ((f"`{name}`", f"`{workload.label}`") for name, workload in STANDARD.items()))


def loads_table() -> str:
    return table(("name", "load"), ((f"`{name}`", f"`{load.label}`") for name, load in LOADS.items()))


def machines_table() -> str:
    """The library of public machines."""
    rows = []
    for host in library():
        device, capability = host.device, host.device.capability
        machine = PublicMachine.read(host.place.removeprefix("host:"))
        can = f"{capability[0]}.{capability[1]}" if capability else " ".join(sorted(host.cpu_features)) or "-"
        rows.append((f"`{host.place}`", machine.title, size(device.memory_bytes), size(device.free_bytes), can))
    head = ("machine", "what it is", "memory", "of which free", "compute capability, or instructions")
    return table(head, iter(rows))


def survey_example() -> str:
    """Some lines of `explain --all-hosts`."""
    words = ("explain", "shape:qwen3-30b-a3b", "--all-hosts")
    head, *rows = printed(*words).splitlines()
    machines = ("h100-sxm-80gb", "rtx-4090", "v100", "epyc-genoa", "graviton3")
    shown = [row for machine in machines for row in rows if row.startswith(f"host:{machine} ")]
    return "\n".join(["```", f"$ autobackend {' '.join(words)}", head, *shown, "...", *rows[-3:], "```", ""])


def rules_table() -> str:
    """As `autobackend rules` prints it: a line for each rule, its name and its sentence in two columns."""
    rows = (line.split(maxsplit=1) for line in printed("rules").splitlines())
    return table(("rule", "what must hold"), ((f"`{name}`", sentence) for name, sentence in rows))


def exchange_format() -> str:
    """The example and the notes of the format's own module."""
    example, notes = re.findall(r"\n\n((?: {4}[^\n]*\n)+)\n(.*)", exchange.__doc__ or "", re.DOTALL)[0]
    lines = "".join(line[4:] + "\n" for line in example.splitlines())
    return f"```\n{lines}```\n\n{notes.strip()}\n"


def objectives_table() -> str:
    return table(("objective", "what is best"), ((f"`{objective}`", objective.sentence) for objective in Objective))


def names_table() -> str:
    """The public names that are no errors, and the first sentence that each has."""
    names = [name for name in autobackend.__all__ if name not in vars(errors) and not name.startswith("_")]
    return table(
        ("name", "what it is"), ((f"`{name}`", sentence(getattr(autobackend, name).__doc__)) for name in names)
    )


def sentence(docstring: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((docstring or "").strip().partition("\n\n")[0].split())


def sets_table() -> str:
    """The requirement sets for CPUs that come with autobackend."""
    rows = []
    for name, backend in all_backends().items():
        listed = RequirementSet.find(name, "cpu", source_file(backend).parent / "requirements")
        if listed is not None:
            package = backend.facts.on("cpu").package
            rows.append(
                (f"`{name}`", f"{package} {listed.version(package)}", str(len(listed.pins)), size(listed.bytes))
            )
    return table(("backend", "engine", "packages", "on the disk"), iter(rows))


def targets_table() -> str:
    """The programs that `select --emit` writes for."""
    return table(
        ("program", "what is printed", "backends"),
        (
            (f"`{target.name}`", target.what, ", ".join(f"`{backend}`" for backend in target.backends) or "all")
            for target in map(find_target, target_names())
        ),
    )


def truth_table() -> str:
    """What loading small models showed of the rules."""
    told = json.loads((ROOT / "results" / "rules" / "rules.json").read_text())
    lines = matrix(told["engines"])
    if before := told.get("before"):
        lines += ["", before_sentence(before["commit"]), "", *matrix(before["engines"])]
    return "\n".join(lines) + "\n"


def streams_table() -> str:
    """How each backend without a server of its own serves; variants that do it alike share a line."""
    rows: list[tuple[str, str, str]] = []
    for name, backend in all_backends().items():
        if type(backend).own_server is not Backend.own_server:
            continue
        kinds: dict[type[Streams], list[str]] = {}
        for variant in backend.variants:
            kinds.setdefault(backend.streams_type(variant), []).append(f"`{variant.name}`")
        rows += [
            (
                f"`{name}`" if len(kinds) == 1 else f"`{name}`: {', '.join(variants)}",
                kind.batching,
                ", ".join(sorted(kind.abilities)) or "nothing",
            )
            for kind, variants in kinds.items()
        ]
    return table(("backend", "batching", "beside greedy answers"), iter(rows))


def make_table() -> str:
    """The comments at the head of the Makefile."""
    rows = re.findall(r"^# make (\S+) +(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return table(("target", "what it does"), ((f"`make {target}`", what) for target, what in rows))


def folders_table() -> str:
    return table(("folder", "what it holds"), ((f"`{name}/`", sentence) for name, sentence in folders()))


def folders() -> Iterator[tuple[str, str]]:
    """Every folder of the code that is a package, and the first sentence of its `__init__`."""
    for package in ("calibration", "selector", "benchmarks"):
        for file in sorted(ROOT.glob(f"{package}/**/__init__.py")):
            docstring = ast.get_docstring(ast.parse(file.read_text()))
            assert docstring, f"{file} has no sentence"
            yield file.parent.relative_to(ROOT).as_posix(), sentence(docstring)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "exchange": exchange_format,
    "folders": folders_table,
    "loads": loads_table,
    "machines": machines_table,
    "make": make_table,
    "names": names_table,
    "objectives": objectives_table,
    "predicted": prediction_screen,
    "rules": rules_table,
    "sets": sets_table,
    "survey": survey_example,
    "targets": targets_table,
    "truth": truth_table,
    "streams": streams_table,
    "workloads": workloads_table,
}

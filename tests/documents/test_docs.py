"""README and docs: what the program writes of them is the program's own, and what they name exists."""

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from selector.answer import SelectionWarning, Source
from selector.cli import main
from tests.documents.generated import HELP, ROOT, SECTION, SECTIONS, documents, printed, renewed
from tests.documents.readme_results import readme_ranking

README = ROOT / "README.md"
DOCUMENTS = pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
OURS = r"(?:calibration|selector|benchmarks|tests|docs|results|\.github|\.ci)"
PYTHON = re.compile(r"<!-- python -->\n```python\n(.*?)```\n", re.DOTALL)
OF_TESTS = {"AUTOBACKEND_MODEL_CONFIGS", "AUTOBACKEND_TEST_STANDINS", "AUTOBACKEND_VLLM_PYTHON"}
"""Variables that only the tests read."""


def commands(document: Path) -> Iterator[str]:
    """`autobackend ...` as a line of a block and as code in a sentence."""
    text = document.read_text()
    for block in FENCE.findall(text):
        yield from re.findall(r"^(?:\$ )?(autobackend .*?)(?:  +#.*)?$", block, re.MULTILINE)
    yield from (code for code in CODE.findall(FENCE.sub("", text)) if code.startswith("autobackend "))


def anchors(document: Path) -> set[str]:
    """What a heading is called in a link, as GitHub calls it."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200


@DOCUMENTS
def test_generated_parts_are_the_programs_own(document: Path) -> None:
    """`make docs` writes them anew."""
    text = document.read_text()
    assert text == renewed(text)


def test_every_command_and_table_is_shown() -> None:
    texts = [document.read_text() for document in documents()]
    shown = {match[2].strip() for text in texts for match in HELP.finditer(text)}
    assert {"", *main.list_commands(click.Context(main)), "backends install"} - {"host", "rules", "shapes"} <= shown
    sections = {match[2] for text in texts for match in SECTION.finditer(text)}
    assert sections == {"backend", "python", *SECTIONS}


def test_json_keys_are_the_programs_own() -> None:
    rows = (ROOT / "docs/cli.md").read_text().split("`select --json` prints one object:")[1].split("\n\n")[1]
    cells = [row.split("|")[1:3] for row in rows.splitlines()[2:]]
    answer = json.loads(printed("select", "shape:gpt2", "--json"))
    assert [key for keys, _ in cells for key in re.findall(r"`(\w+)`", keys)] == list(answer)
    told = {keys.strip(" `"): list(dict.fromkeys(re.findall(r"`(\w+)`", meaning))) for keys, meaning in cells}
    assert told["rejected"] == list(answer["rejected"][0])
    assert told["ranking"] == list(readme_ranking()[0].to_json())


def test_sources_are_the_programs_own() -> None:
    section = README.read_text().split("## Where an answer comes from")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(Source)


@DOCUMENTS
def test_links_resolve(document: Path) -> None:
    for target in LINK.findall(FENCE.sub("", document.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@DOCUMENTS
def test_files_and_modules_exist(document: Path) -> None:
    for code in CODE.findall(FENCE.sub("", document.read_text())):
        for name in re.findall(rf"(?<![\w./]){OURS}/[\w./*-]*", code):
            assert [*ROOT.glob(name.rstrip("/"))], name
        for name in re.findall(rf"(?<![\w./]){OURS}(?:\.\w+)+(?![\w/])", code):
            assert imported(name), name


def imported(name: str) -> object:
    """A module, or what a module has: `calibration.backend.Backend`."""
    parent, _, last = name.rpartition(".")
    if not parent:
        return importlib.import_module(name)
    owner = imported(parent)
    return getattr(owner, last) if hasattr(owner, last) else importlib.import_module(name)


@DOCUMENTS
def test_commands_have_the_options_that_are_shown(document: Path) -> None:
    for line in commands(document):
        command: click.Command = main
        for word in shlex.split(line)[1:]:
            if isinstance(command, click.Group) and re.fullmatch("[a-z]+", word):
                found = command.get_command(click.Context(command), word)
                assert found is not None, line
                command = found
            elif word.startswith("-"):
                options = {name for option in command.params for name in option.opts} | {"--help", "-h"}
                assert word in options, line


@DOCUMENTS
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    named = {code for code in CODE.findall(text) if code.startswith("make ")} | set(
        re.findall(r"^(make [a-z-]+) ", text, re.MULTILINE)
    )
    assert {name.split()[1] for name in named} <= targets


def test_variables_are_those_that_the_program_reads() -> None:
    told = set(re.findall(r"^\| `(AUTOBACKEND_\w+)`", (ROOT / "docs/cli.md").read_text(), re.MULTILINE))
    sources = [file for package in ("calibration", "selector") for file in (ROOT / package).glob("**/*.py")]
    read = {name for file in sources for name in re.findall(r"AUTOBACKEND_[A-Z_]+", file.read_text())}
    assert told == read - OF_TESTS


def test_every_benchmark_is_in_their_index() -> None:
    """By the folder of its files, or by one above; and each file that a line names is in that line's folder."""
    benchmarks = ROOT / "benchmarks"
    lines = re.findall(r"^\| `[^`]+` \| `([\w/]+)/` \| (.+) \|$", (benchmarks / "README.md").read_text(), re.MULTILINE)
    named = {benchmarks / folder for folder, _ in lines}
    with_files = {file.parent for file in benchmarks.glob("**/*.py") if file.name != "__init__.py"}
    assert {folder for folder in with_files if named.isdisjoint({folder, *folder.parents})} == set()
    for folder, text in lines:
        for file in re.findall(r"`(\w+\.py)`", text):
            assert (benchmarks / folder / file).exists(), (folder, file)


def test_every_document_is_in_the_index() -> None:
    index = {ROOT / "docs" / target for target in LINK.findall((ROOT / "docs/README.md").read_text())}
    assert {path for path in documents() if path.parent == ROOT / "docs"} - {ROOT / "docs/README.md"} <= index


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_python_examples_run(name: str) -> None:
    """All but lines that load an engine."""
    example = PYTHON.search((ROOT / name).read_text())
    assert example
    lines = [line for line in example[1].splitlines() if ".load()" not in line]
    names: dict[str, object] = {}
    with pytest.warns(SelectionWarning):
        exec("\n".join(lines), names)
    assert "choice" in names

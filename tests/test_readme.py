"""The README's tables, --help blocks and example backend are the program's own.

`python -m tests.test_readme`, from the root, writes the tables and --help blocks anew.
"""

import json
import re
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from calibration.supervision.supervisor import Reply, Worker
from calibration.workload import STANDARD
from selector.cli import main
from selector.rules.judge import rules_table
from selector.selection import choose

README = Path(__file__).resolve().parent.parent / "README.md"
SECTION = re.compile(r"(<!-- (workloads|rules) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
HELP = re.compile(r"(```\n\$ autobackend ([a-z ]*)--help\n)(.*?)(```\n)", re.DOTALL)
TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
VARIANT = {"name": "sdpa", "devices": [], "only_without": []}
EXAMPLE = re.compile(r"<!-- backend -->\n```python\n(.*?)```\n", re.DOTALL)


def workloads_table() -> str:
    rows = [f"| `{name}` | `{workload.label}` |" for name, workload in STANDARD.items()]
    return "\n".join(["| name | workload |", "| --- | --- |", *rows, ""])


def rules_section() -> str:
    rows = [f"| `{name}` | {sentence} |" for name, sentence in rules_table()]
    return "\n".join(["| rule | what must hold |", "| --- | --- |", *rows, ""])


def help_screen(command: str) -> str:
    return CliRunner().invoke(main, [*command.split(), "--help"], prog_name="autobackend", terminal_width=100).output


def renewed(readme: str) -> str:
    """The README with every generated part as the program has it now."""
    sections = {"workloads": workloads_table, "rules": rules_section}
    readme = SECTION.sub(lambda found: found[1] + sections[found[2]]() + found[4], readme)
    return HELP.sub(lambda found: found[1] + help_screen(found[2]) + found[4], readme)


@pytest.mark.parametrize("name", ["workloads", "rules"])
def test_tables_are_the_programs_own(name: str) -> None:
    text = README.read_text()
    shown = {found[2]: found[0] for found in SECTION.finditer(text)}
    due = {found[2]: found[0] for found in SECTION.finditer(renewed(text))}
    assert shown[name] == due[name]


def test_help_blocks_are_the_programs_own() -> None:
    shown = {found[2].strip(): found[3] for found in HELP.finditer(README.read_text())}
    assert shown == {command: help_screen(command) for command in shown}
    expected = {"", "calibrate", "select", "explain", "publish", "backends", "backends install", "cache", "artifacts"}
    assert expected <= shown.keys()


def test_json_keys_are_the_programs_own() -> None:
    table = README.read_text().split("`select --json` prints one object:")[1].split("\n\n")[1]
    shown = [key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert shown == list(choose("shape:gpt2").to_json())


@pytest.mark.engine
def test_example_backend_runs(tmp_path: Path) -> None:
    """In a worker, from its file, as a backend of somebody else's package does."""
    source, model = tmp_path / "generate_backend.py", tmp_path / "model"
    found = EXAMPLE.search(README.read_text())
    assert found
    source.write_text(found[1])
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    job = {
        "model_dir": str(model), "artifact_dir": None, "dtype": "float32", "vocab_size": 64, "device": "cpu",
        "threads": 1, "max_context_tokens": 32, "max_batch": 2,
    }  # fmt: skip
    prompts = [[5, 6, 7, 8], [9, 10, 11, 12]]
    with Worker(Path(sys.executable), log=tmp_path / "log", memory_limit_bytes=8 << 30) as worker:

        def ask(verb: str, **fields: Any) -> Mapping[str, Any]:
            reply = worker.ask(verb, timeout_s=120, **fields)
            assert isinstance(reply, Reply), (reply, (tmp_path / "log").read_text())
            return reply.fields

        ask("checkpoint", config_dir=str(tmp_path), destination=str(model), seed=0)
        ask("open", backend="generate", source=str(source), job=job, variant=VARIANT)
        ask("load")
        answer = ask(
            "answer",
            prompts=prompts,
            groups=[[0, 1]],
            new_tokens=4,
            continuations=None,
            rows_file=str(tmp_path / "rows"),
        )
        sample = ask("sample", seed="", prompt_tokens=4, output_tokens=4, batch=2)
    scores = array("f", (tmp_path / "rows").read_bytes())
    rows = [scores[i : i + 64] for i in range(0, len(scores), 64)]
    likeliest = [row.index(max(row)) for row in rows]
    assert answer["rows"] == [4, 64]
    assert answer["tokens"] == [[likeliest[:4], likeliest[4:]]]
    assert sample["ttft_s"] > 0 and sample["tpot_s"] > 0


if __name__ == "__main__":
    sys.exit(README.write_text(renewed(README.read_text())) == 0)

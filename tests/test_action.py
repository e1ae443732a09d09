"""The GitHub Action: its steps run in bash as GitHub runs them, with the real command and a stand-in for `gh`."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from calibration.cache.cache import Cache
from selector.context import DEFAULT
from selector.evidence.identity import identity
from selector.model.spec import ModelSpec
from tests.engines import tiny_models
from tests.selector.launches import DAY, failure, rounds

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / ".github/actions/autobackend/action.yml"
ACTION: dict[str, Any] = yaml.safe_load(FILE.read_text())
STEPS: dict[str, dict[str, Any]] = {step["name"]: step for step in ACTION["runs"]["steps"]}
EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")
MODEL = "shape:smollm2-135m"
SDPA, EAGER = "transformers:sdpa", "transformers:eager"

GH = """#!/bin/sh
# `gh`: writes down what it is asked, and answers with the number of a comment, where there is one.
printf '%s\\n' "$*" >> "$GH_LOG"
case "$*" in *--jq*) [ -z "$GH_EARLIER" ] || echo "$GH_EARLIER" ;; esac
"""


@dataclass
class Job:
    """A job on a runner: the steps share its files, as on GitHub."""

    folder: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        code = "from selector.cli import main; main(prog_name='autobackend')"
        (programs / "autobackend").write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore -c "{code}" "$@"\n')
        (programs / "gh").write_text(GH)
        for program in programs.iterdir():
            program.chmod(0o755)
        (self.folder / "tmp").mkdir()

    def value(self, expression: str) -> str:
        """What GitHub puts in for an expression."""
        default = {name: str(content.get("default", "")) for name, content in ACTION["inputs"].items()}
        known = {
            **{f"inputs.{name}": self.inputs.get(name, text) for name, text in default.items()},
            **{f"steps.publish.outputs.{name}": text for name, text in self.outputs.items()},
            "github.action_path": str(FILE.parent),
            "github.repository": "owner/name",
            "github.event.pull_request.number": "7",
        }
        return known[expression]

    def run(self, name: str) -> "subprocess.CompletedProcess[str]":
        """Run a step as GitHub does: bash --noprofile --norc -eo pipefail FILE."""
        step, script = STEPS[name], self.folder / "step.sh"
        script.write_text(step["run"])
        output = self.folder / "output"
        output.write_text("")
        own = {
            key: EXPRESSION.sub(lambda match: self.value(match[1]), text) for key, text in step.get("env", {}).items()
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder,
            env={
                **os.environ, **self.variables, **own,
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
                "RUNNER_TEMP": str(self.folder / "tmp"), "TMPDIR": str(self.folder / "tmp"),
                "GITHUB_OUTPUT": str(output), "GITHUB_PATH": str(self.folder / "path"),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
                "AUTOBACKEND_CACHE": str(self.folder / "cache.db"), "GH_LOG": str(self.folder / "gh.log"),
            },
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        self.outputs |= dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done


def add(job: Job, *, eager_fails: bool) -> None:
    """Launches of this very machine, in the job's cache."""
    host = DEFAULT.host()
    key = identity(ModelSpec.read(MODEL), host)
    with Cache.open(job.folder / "cache.db") as cache:
        if eager_fails:
            cache.add(failure(EAGER, key, host, at=DAY + 9000))
        else:
            cache.add(*rounds(SDPA, key, host, (1.0, 1.0)), *rounds(EAGER, key, host, (2.0, 2.0)))


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-actions", FILE),
        *[("vendor.github-workflows", file) for file in sorted((ROOT / ".github/workflows").glob("*.yml"))],
    ],
    ids=lambda one: getattr(one, "stem", one),
)
def test_it_keeps_to_githubs_schema(schema: str, file: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_its_scripts_are_careful() -> None:
    assert (ACTION["runs"]["using"], list(STEPS)) == (
        "composite", ["Install", "Calibrate", "Publish", "Comment", "Fail where results are worse"],
    )  # fmt: skip
    for name, step in STEPS.items():
        script = step["run"]
        assert script.startswith("set -euo pipefail\n"), name
        assert step["shell"] == "bash", name
        assert "${{" not in script, f"{name}: a branch's name would be code"
        used = set(re.findall(r"\$\{?([A-Z_]+)", script))
        given = {"RUNNER_TEMP", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", *step.get("env", {})}
        assert used <= given, name
        # A value that stands unquoted would be split at its blanks; shellcheck looks for that and for other slips.
        checked = subprocess.run(
            [Path(sys.executable).with_name("shellcheck"), "--shell=bash", "-"],
            input=script, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout


def test_every_expression_is_known(tmp_path: Path) -> None:
    job = Job(tmp_path, outputs={"report": ""})
    for step in STEPS.values():
        for text in step.get("env", {}).values():
            for expression in EXPRESSION.findall(text):
                assert isinstance(job.value(expression), str)
    conditions = " ".join(str(step.get("if", "")) for step in STEPS.values())
    for name in re.findall(r"inputs\.([\w-]+)", conditions):
        assert name in ACTION["inputs"]
    assert {output["value"] for output in ACTION["outputs"].values()} == {
        "${{ steps.publish.outputs.worse }}", "${{ steps.publish.outputs.compared }}",
    }  # fmt: skip


def test_the_first_results_have_nothing_to_be_compared_with(tmp_path: Path) -> None:
    job = Job(tmp_path)
    add(job, eager_fails=False)
    done = job.run("Publish")
    assert done.returncode == 0, done.stderr
    host = DEFAULT.host().identifier
    assert (tmp_path / "results" / "hosts" / f"{host}.json").is_file()
    assert (job.outputs["worse"], job.outputs["compared"]) == ("false", "false")
    assert Path(job.outputs["report"]).read_text() == (
        "<!-- autobackend -->\n### autobackend\n\n"
        f"There are no earlier results of this machine ({host}) to compare with.\n"
    )
    assert "### autobackend" in (tmp_path / "summary.md").read_text()


def test_what_is_worse_is_told_and_fails_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path)
    add(job, eager_fails=False)
    job.run("Publish")
    same = job.run("Publish")
    assert (same.returncode, job.outputs["worse"], job.outputs["compared"]) == (0, "false", "true")
    assert ": nothing changed" in Path(job.outputs["report"]).read_text()
    add(job, eager_fails=True)
    done = job.run("Publish")
    assert done.returncode == 0, done.stderr
    assert (job.outputs["worse"], job.outputs["compared"]) == ("true", "true")
    report = Path(job.outputs["report"]).read_text()
    assert "\n**Some results are worse than the last ones.**\n\nCompared 1 model, " in report
    assert re.search(r"\n```\n.*worse +shape:smollm2-135m +fails +transformers:eager ", report, re.DOTALL), report
    failed = job.run("Fail where results are worse")
    assert (failed.returncode, failed.stdout) == (
        1, "::error::results are worse than the last ones: see the job's summary\n",
    )  # fmt: skip


def test_nothing_measured_fails(tmp_path: Path) -> None:
    done = Job(tmp_path).run("Publish")
    assert done.returncode == 4
    assert "nothing was measured on this host" in done.stderr


@pytest.mark.parametrize("earlier", ["", "12345"])
def test_a_pull_request_gets_one_comment_that_is_renewed(earlier: str, tmp_path: Path) -> None:
    job = Job(tmp_path, variables={"GH_EARLIER": earlier}, outputs={"report": str(tmp_path / "report.md")})
    done = job.run("Comment")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "gh.log").read_text().splitlines()
    assert asked[0].startswith(
        "api --paginate repos/owner/name/issues/7/comments --jq .[] | select(.body | startswith("
    )
    assert asked[1:] == [
        f"api --silent --method PATCH repos/owner/name/issues/comments/12345 --field body=@{tmp_path}/report.md"
        if earlier
        else f"pr comment 7 --body-file {tmp_path}/report.md"
    ]


def test_models_that_cannot_be_calibrated_are_told_and_fail_together(tmp_path: Path) -> None:
    job = Job(tmp_path, inputs={"models": "shape:nope ./nothing"})
    done = job.run("Calibrate")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "::warning::shape:nope was not calibrated: exit code 3",
        "::warning::./nothing was not calibrated: exit code 3",
        "::error::no model was calibrated",
    ]


@pytest.mark.engine
def test_it_calibrates_and_publishes(tmp_path: Path) -> None:
    model = tiny_models.write("llama", "published", tmp_path)
    options = "--backends transformers:sdpa --workload pp16:tg4:b1 --full --rounds 1 --no-probe"
    (tmp_path / "job").mkdir()
    job = Job(tmp_path / "job", inputs={"models": f"shape:nope {model}", "options": options, "budget": "120"})
    done = job.run("Calibrate")
    assert done.returncode == 0, done.stderr
    assert "::warning::shape:nope was not calibrated: exit code 3\n" in done.stdout
    published = job.run("Publish")
    assert published.returncode == 0, published.stderr
    [file] = (job.folder / "results" / "hosts").glob("*.json")
    assert json.loads(file.read_text())["host"]["identifier"] == file.stem == DEFAULT.host().identifier


def test_an_install_asks_for_the_extras_and_the_pinned_versions(tmp_path: Path) -> None:
    """With a `python3` that makes an environment whose pip writes down what it is asked."""
    job = Job(tmp_path)
    fake = job.folder / "bin" / "python3"
    makes = 'mkdir -p "$3/bin"; printf \'#!/bin/sh\\necho "$@"\\n\' > "$3/bin/python"; chmod +x "$3/bin/python"'
    fake.write_text(f"#!/bin/sh\n{makes}\n")
    fake.chmod(0o755)
    source = f"{FILE.parent}/../../.."
    for extras, constraint in (("cpu", f"--constraint {source}/constraints.txt "), ("lmdeploy", "")):
        job.inputs = {"extras": extras}
        done = job.run("Install")
        assert (done.returncode, done.stdout) == (0, f"-m pip install --quiet {constraint}{source}[{extras}]\n")
    assert (tmp_path / "path").read_text().splitlines() == [f"{tmp_path}/tmp/autobackend/bin"] * 2

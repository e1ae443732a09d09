"""The list of known disagreements: it is read strictly, and what it lists disagrees as it says."""

import tomllib
from pathlib import Path

import pytest

from benchmarks.rule_truth.cases.kept import Kept
from benchmarks.rule_truth.judging import Pair
from benchmarks.rule_truth.known.known import FOLDER, Known
from benchmarks.rule_truth.report import count, report_json, report_markdown
from benchmarks.rule_truth.rule_truth import LMDEPLOY_PYTHON, main
from benchmarks.rule_truth.stand_ins import KERNELS
from calibration.errors import UsageError
from calibration.registry import find
from tests.benchmarks.rule_truth.test_rule_truth import trial

ENTRY = """
[[disagreement]]
cases = ["odd", "odd@tied"]
variants = ["float32"]
pairing = "false yes"
cause = "drops | the bias"
reference = "converters/t.py:1"
seen = "ctranslate2 4.8.5"
"""


def known(tmp_path: Path, text: str = ENTRY) -> Known:
    (tmp_path / "ctranslate2.toml").write_text(text)
    return Known.read(tmp_path)


def wrong(case: str) -> Pair:
    return Pair(trial=trial(case, verdict="wrong output", message="diverges"), reasons=())


def test_what_is_listed_stands_apart_from_what_nobody_explained(tmp_path: Path) -> None:
    pairs = [wrong("odd"), wrong("odd@tied"), wrong("other")]
    cases = {f"digest-{name}": Kept(case=name, config="", kind="default") for name in ("odd", "odd@tied", "other")}
    told, listed = report_json(pairs, known(tmp_path)), known(tmp_path)
    assert [d["known"] and d["known"]["seen"] for d in told["disagreements"]] == ["ctranslate2 4.8.5"] * 2 + [None]
    assert count(pairs, listed)["ctranslate2"] == {
        "right yes": 0, "right no": 0, "false yes": 3, "false no": 0, "explained": 2, "unknown": 0,
    }  # fmt: skip
    lines = report_markdown(pairs, cases, listed, []).splitlines()
    assert [line for line in lines if line.startswith("| `")] == [
        "| `ctranslate2:float32` | `other` | default | wrong output: diverges |",
        "| `ctranslate2:float32` | `odd`, `odd@tied` | drops \\| the bias | converters/t.py:1 | ctranslate2 4.8.5 |",
    ]


def test_what_is_listed_and_does_not_disagree_so_is_an_error_of_the_list(tmp_path: Path) -> None:
    right = Pair(trial=trial("odd"), reasons=())
    refused = Pair(trial=trial("odd@tied"), reasons=("rope_type: needs default; found yarn",))
    listed = known(tmp_path)
    assert listed.errors([right, refused, wrong("other")], [("gone", "ctranslate2:float32")]) == [
        "`odd` in `ctranslate2:float32` is listed as false yes; found right yes",
        "`odd@tied` in `ctranslate2:float32` is listed as false yes; found false no",
        "`gone` in `ctranslate2:float32` is listed, but was not tried",
    ]
    assert listed.errors([wrong("odd"), wrong("odd@tied")], []) == []
    assert listed.explains(refused) is None
    text = report_markdown([right], {"digest-odd": Kept(case="odd", config="", kind="default")}, listed, ["it is gone"])
    assert text.endswith("## Errors of the list\n\n- it is gone\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY + ENTRY, "odd in ctranslate2:float32 is listed twice"),
        (ENTRY.replace("false yes", "right no"), "pairing needs false yes or false no; found right no"),
        (ENTRY.replace('"odd", "odd@tied"', ""), "needs a list with something in it"),
        (ENTRY.replace('"converters/t.py:1"', '" "'), "reference needs words; found none"),
        (ENTRY.replace("seen", "version"), "knows no field"),
        (ENTRY.replace('seen = "ctranslate2 4.8.5"', ""), r"needs the field disagreement\[0\].seen"),
    ],
)
def test_a_list_of_another_form_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=rf"^ctranslate2.toml: .*{problem}"):
        known(tmp_path, text)


def test_what_is_listed_names_backends_and_variants_that_there_are() -> None:
    for file in FOLDER.glob("*.toml"):
        variants = {
            variant for entry in tomllib.loads(file.read_text())["disagreement"] for variant in entry["variants"]
        }
        assert {find(file.stem).variant(name).name for name in variants} == variants
    Known.read()


@pytest.mark.engine
@pytest.mark.parametrize("backend", sorted(file.stem for file in FOLDER.glob("*.toml")))
def test_what_is_listed_still_disagrees(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    if backend in KERNELS and not Path(LMDEPLOY_PYTHON).exists():
        pytest.skip(f"there is no {LMDEPLOY_PYTHON}")
    assert main(["report", "--backend", backend]) == 0
    _, _, errors = capsys.readouterr().out.partition("## Errors of the list")
    assert errors == ""

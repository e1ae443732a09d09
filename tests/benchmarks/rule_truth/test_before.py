"""The rules of an earlier commit judge recorded pairs, with the code of that commit."""

from pathlib import Path

import pytest

from benchmarks.rule_truth.before.before import NO_VARIANT, judged_before
from benchmarks.rule_truth.cases.kept import Kept, kept_of
from benchmarks.rule_truth.judging import Pair
from benchmarks.rule_truth.known.known import Known
from benchmarks.rule_truth.report import Before, count, report_json, report_markdown
from calibration.errors import UsageError
from tests.benchmarks.rule_truth.test_rule_truth import LLAMA, folder_of, trial


@pytest.mark.engine
def test_each_pair_gets_the_reasons_of_the_commit(tmp_path: Path) -> None:
    cases = {
        "digest-llama": kept_of("llama", "digest-llama", "default", folder_of(tmp_path / "source", LLAMA)),
        "digest-broken": Kept(case="broken", config="digest-broken", kind="default", content={"model_type": ["llama"]}),
    }
    trials = [trial(), trial(candidate="ctranslate2:none"), trial("broken", verdict="refused")]
    pairs = judged_before("HEAD", trials, cases, None, tmp_path)
    assert [pair.trial for pair in pairs] == trials
    assert [pair.reasons for pair in pairs[:2]] == [(), (NO_VARIANT,)]
    assert pairs[2].reasons[0].startswith("cannot be read: ")


def test_a_commit_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^git has no commit 0000000"):
        judged_before("0000000", [], {}, None, tmp_path)


def test_the_report_has_both_matrices() -> None:
    now, then = Pair(trial=trial(), reasons=()), Pair(trial=trial(), reasons=("rope_type: needs default; found yarn",))
    before = Before(commit="abc", engines=count([then], Known()))
    lines = report_markdown([now], {}, Known(), [], before).splitlines()
    rows = [line for line in lines if line.startswith("| ctranslate2")]
    assert rows == [
        "| ctranslate2 | 1 | 100% | 1 | 0 | 0 | 0 | 0 | 0 |",
        "| ctranslate2 | 1 | 0% | 0 | 0 | 0 | 1 | 0 | 0 |",
    ]
    told = report_json([now], Known(), before)["before"]
    assert (told["commit"], told["engines"]["ctranslate2"]["false no"]) == ("abc", 1)

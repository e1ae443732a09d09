"""The figures of the README's screens are those of a calibration in results/: nothing is retyped or invented."""

import re

from calibration.measurement import Measurement
from calibration.noise import prior_cv
from calibration.workload import Workload
from selector.screens.text import converted, decode, output, plural, prefill, rate, seconds, seconds_within, size
from tests.documents.generated import ROOT
from tests.documents.readme_results import calibrated_outcomes, readme_ranking

README = (ROOT / "README.md").read_text()
SELECTED = re.compile(
    r"^  (\S+:\S+) +(\S+ ± \S+ m?s)  TTFT (\S+ m?s)  TPOT (\S+ m?s) +memory +\S+ % +\S+ +\S+ %"
    r"(?:  converted once in (.+))?$",
    re.MULTILINE,
)
CALIBRATED = re.compile(
    r"^(\S+:\S+) +(\d+) +(\S+ ± \S+ tok/s) +(\S+ ± \S+ tok/s) +(\S+ GiB) +(.+?)   (right|lossy.*?) +on 3 of 32 layers$",
    re.MULTILINE,
)


def test_select_shows_what_was_measured() -> None:
    screen = README.split("--workload pp1024:tg32:b4 --why\n")[1].split("refused:")[0]
    shown = {label: figures for label, *figures in SELECTED.findall(screen)}
    ranking = [ranked for ranked in readme_ranking() if ranked.candidate.label in shown]
    assert [r.candidate.label for r in ranking] == list(shown)
    for ranked in ranking:
        half = (ranked.ci95[1] - ranked.ci95[0]) / 2
        made = f"{seconds(ranked.prepare_s)}, {size(ranked.artifact_bytes or 0)}" if ranked.prepare_s else ""
        figures = [seconds_within(ranked.e2e_s, half), seconds(ranked.ttft_s), seconds(ranked.tpot_s), made]
        assert shown[ranked.candidate.label] == figures
    launches = sum(ranked.n for ranked in ranking)
    assert f"({plural(launches, 'launch')}, {plural(len(ranking), 'candidate')}), for pp1024:tg32:b4" in screen


def test_calibrate_shows_what_was_measured() -> None:
    screen = README.split("$ autobackend calibrate")[1].split("```")[0]
    shown = {label: figures for label, *figures in CALIBRATED.findall(screen)}
    cell = Workload.parse("pp512:tg32:b1")
    launches = {o.candidate.label: o for o in calibrated_outcomes() if isinstance(o, Measurement)}
    timed = {label: o for label, o in launches.items() if cell in {c.workload for c in o.cells}}
    assert set(shown) == set(timed)
    for label, figures in shown.items():
        launch = timed[label]
        assert figures == [
            "1",
            rate(prefill([launch], cell, prior_cv("cpu"))),
            rate(decode([launch], cell, prior_cv("cpu"))),
            size(launch.peak_memory_bytes),
            converted(launch),
            output(launch.agreement),
        ], label

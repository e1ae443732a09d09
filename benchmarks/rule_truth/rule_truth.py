"""Every small model in every engine with the rules switched off, beside what the rules say.

`python -m benchmarks.rule_truth measure` writes a case's checkpoint, converts, loads and checks it in each candidate,
and appends a line to results/rules/truth.jsonl for each pair that ends; the same command goes on from there.

`python -m benchmarks.rule_truth report` judges all recorded pairs by the present rules, without loading anything;
`--write` writes results/rules/rules.md and rules.json.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rule_truth.before.before import judged_before
from benchmarks.rule_truth.candidates import is_exact, named
from benchmarks.rule_truth.cases.kept import Kept, read_cases
from benchmarks.rule_truth.judging import judged, quiet
from benchmarks.rule_truth.known.known import Known
from benchmarks.rule_truth.report import Before, count, report_json, report_markdown
from benchmarks.rule_truth.stand_ins import KERNELS, gpu_host
from benchmarks.rule_truth.truth import CASES, TRUTH, Trial, newest, read_trials
from calibration.errors import AutobackendError
from selector.host.spec import HostSpec

FIRST = "5c7d874"
"""The last commit of the rules before any pair had been loaded to judge them."""
LMDEPLOY_PYTHON = ".venv-lmdeploy/bin/python"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    try:
        {"measure": measure, "report": report}[arguments.command](arguments)
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def measure(arguments: argparse.Namespace) -> None:
    """Try the pairs that the truth file lacks."""
    from benchmarks.rule_truth.cases.cases import all_cases, for_a_gpu
    from benchmarks.rule_truth.measure import Measuring

    build, here = Path(arguments.build).resolve(), quiet(HostSpec.detect())
    every = for_a_gpu(all_cases()) if arguments.lmdeploy else all_cases()
    cases = [case for case in every if _wanted(case.name, case.kind, arguments)]
    Measuring(
        host=gpu_host(here, Path(arguments.lmdeploy), build) if arguments.lmdeploy else here,
        results=Path(arguments.results),
        build=build,
        backends=arguments.backend,
        budget_s=arguments.budget,
        refresh=arguments.refresh,
        fresh=arguments.fresh,
        lmdeploy=bool(arguments.lmdeploy),
    ).run(cases[: arguments.limit])


def report(arguments: argparse.Namespace) -> None:
    """Judge the recorded pairs by the present rules."""
    results = Path(arguments.results)
    # Of a case whose files are now others only these count.
    latest = {case.case: case for case in read_cases(results / CASES)}
    cases = {case.config: case for case in latest.values()}
    trials = newest(read_trials(results / TRUTH).values())
    chosen = [
        trial
        for trial in trials
        if trial.config in cases
        and _wanted(trial.case, cases[trial.config].kind, arguments)
        and named((trial.candidate,), arguments.backend)
        and is_exact(trial.candidate, cases[trial.config].content)
    ]
    here = quiet(HostSpec.detect())
    with tempfile.TemporaryDirectory(prefix="rule-truth-") as name:
        scratch = Path(name)
        hosts = dict.fromkeys((trial.candidate.partition(":")[0] for trial in chosen), here)
        if not hosts.keys().isdisjoint(KERNELS):
            gpu = gpu_host(here, Path(arguments.lmdeploy or LMDEPLOY_PYTHON), scratch)
            hosts |= dict.fromkeys(hosts.keys() & KERNELS.keys(), gpu)
        pairs = sorted(
            judged(chosen, cases, hosts.__getitem__, scratch), key=lambda p: (p.trial.candidate, p.trial.case)
        )
        before = _before(arguments.before, chosen, cases, hosts, scratch)
    known, tried = Known.read(), {(trial.case, trial.candidate) for trial in trials if trial.config in cases}
    untried = [key for key in known.listed if key not in tried and named((key[1],), arguments.backend)]
    text = report_markdown(pairs, cases, known, known.errors(pairs, untried), before)
    if arguments.write:
        (results / "rules.md").write_text(text, encoding="utf-8")
        (results / "rules.json").write_text(
            json.dumps(report_json(pairs, known, before), indent=1) + "\n", encoding="utf-8"
        )
    print(text, end="")


def _before(
    commit: str | None, trials: Sequence[Trial], cases: Mapping[str, Kept], hosts: Mapping[str, HostSpec], scratch: Path
) -> Before | None:
    """What the rules of an earlier commit said of the same pairs."""
    if commit is None:
        return None
    gpu = next((hosts[backend] for backend in KERNELS if backend in hosts), None)
    return Before(commit=commit, engines=count(judged_before(commit, trials, cases, gpu, scratch), Known()))


def _wanted(name: str, kind: str, arguments: argparse.Namespace) -> bool:
    kinds, models = arguments.kinds, arguments.models
    return (not kinds or kind in kinds) and (not models or name in models or name.partition("@")[0] in models)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rule_truth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("measure", "report"), nargs="?", default="measure")
    parser.add_argument("--backend", nargs="+", default=(), metavar="NAME", help="only these backends or variants")
    parser.add_argument("--kinds", nargs="+", default=(), metavar="KIND", help="only cases of these kinds: default ...")
    parser.add_argument("--models", nargs="+", default=(), metavar="NAME", help="only these cases or model types")
    parser.add_argument("--limit", type=int, help="only the first so many cases")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="no pair is begun after so long")
    parser.add_argument("--refresh", action="store_true", help="try again what the truth file has")
    parser.add_argument("--fresh", action="store_true", help="each trial in workers of its own; slower")
    parser.add_argument(
        "--lmdeploy",
        nargs="?",
        const=LMDEPLOY_PYTHON,
        metavar="PYTHON",
        help="only LMDeploy's engines, on the stand-ins of its tests in this environment",
    )
    parser.add_argument("--results", default="results/rules", metavar="FOLDER", help="where truth and report are kept")
    parser.add_argument("--build", default="build/rule_truth", metavar="FOLDER", help="checkpoints and references")
    parser.add_argument(
        "--before",
        nargs="?",
        const=FIRST,
        metavar="COMMIT",
        help="report: what the rules of this commit said, too; without a name of the one before truth was known",
    )
    parser.add_argument("--write", action="store_true", help="report: write the pages, too")
    return parser.parse_args(argv)

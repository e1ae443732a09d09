"""Measure: tries the pairs of cases and candidates that the truth file lacks, until the budget is spent."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rule_truth.candidates import LOSSY, candidate_of, labels_for, named
from benchmarks.rule_truth.cases.cases import Case
from benchmarks.rule_truth.cases.checkpoints import Checkpoints
from benchmarks.rule_truth.cases.kept import append_case, kept_of, read_cases
from benchmarks.rule_truth.judging import reasons_of
from benchmarks.rule_truth.trial import Bench, Exhibit
from benchmarks.rule_truth.truth import CASES, TRUTH, Trial, append, key_of, read_trials
from calibration.errors import ModelError
from selector.host.spec import HostSpec

AT_A_TIME = 30
"""Cases whose pairs are tried backend by backend, so that a worker that has imported an engine loads many of them."""


@dataclass(slots=True, kw_only=True)
class Measuring:
    """One run."""

    host: HostSpec
    results: Path
    build: Path
    backends: Sequence[str] = ()
    """Names of backends or labels of variants; empty: all."""
    budget_s: float | None = None
    """No pair is begun after so long."""
    refresh: bool = False
    """Try again what the truth file has."""
    fresh: bool = False
    """Each trial in workers of its own."""
    lmdeploy: bool = False
    """LMDeploy's engines on stand-ins, and no others."""
    _began: float = field(default_factory=time.monotonic)

    def run(self, cases: Sequence[Case]) -> None:
        """Try each case in each candidate; each pair is written when it ends."""
        self.build.mkdir(parents=True, exist_ok=True)
        known = set() if self.refresh else set(read_trials(self.results / TRUTH))
        kept = {case.config for case in read_cases(self.results / CASES)}
        python = self.host.installations["transformers"].python
        checkpoints = Checkpoints(root=self.build / "cases", python=python, memory_bytes=self.host.memory_bytes)
        bench = Bench(host=self.host, build=self.build, fresh=self.fresh)
        try:
            for at in range(0, len(cases), AT_A_TIME):
                exhibits = self._exhibits(cases[at : at + AT_A_TIME], checkpoints, bench, kept)
                checkpoints.close()
                suffices = self._try_all(exhibits, bench, known)
                bench.clear()
                if not suffices:
                    print("the budget is spent; the same command goes on", file=sys.stderr)
                    return
        finally:
            checkpoints.close()
            bench.clear()

    def _exhibits(self, cases: Sequence[Case], checkpoints: Checkpoints, bench: Bench, kept: set[str]) -> list[Exhibit]:
        """The cases that can be written and read; the others are named on stderr."""
        exhibits = []
        for case in cases:
            try:
                written = checkpoints.write(case)
            except ModelError as error:
                _say(case, error)
                continue
            if case.digest not in kept:
                kept.add(case.digest)
                append_case(self.results / CASES, kept_of(case.name, case.digest, case.kind, written.place))
            try:
                exhibits.append(bench.exhibit(case, written))
            except ModelError as error:
                _say(case, error)
                append(self.results / TRUTH, _unread(case, error))
        return exhibits

    def _try_all(self, exhibits: Sequence[Exhibit], bench: Bench, known: set[tuple[str, str, str, str]]) -> bool:
        """Whether the budget sufficed."""
        labels = dict.fromkeys(label for exhibit in exhibits for label in self._labels(exhibit.case))
        for label in named(tuple(labels), tuple(self.backends)):
            for exhibit in exhibits:
                case = exhibit.case
                key = (case.name, case.digest, label, key_of(bench.versions(candidate_of(label), exhibit)))
                if key in known or label not in self._labels(case):
                    continue
                if self.budget_s is not None and time.monotonic() - self._began > self.budget_s:
                    return False
                self._try(exhibit, bench, label)
                known.add(key)
            bench.pool.end()
        return True

    def _labels(self, case: Case) -> tuple[str, ...]:
        lossy = () if case.quant or self.lmdeploy else tuple(label for label in LOSSY if label in self.backends)
        return (*labels_for(case.quant, case.content, lmdeploy=self.lmdeploy), *lossy)

    def _try(self, exhibit: Exhibit, bench: Bench, label: str) -> None:
        reasons = reasons_of(exhibit.written.place, self.host)[label]
        trial = bench.try_out(exhibit, candidate_of(label), legal=not reasons)
        append(self.results / TRUTH, trial)
        rules = "refused by the rules" if reasons else "legal"
        print(f"{trial.case}  {label}  {rules}  {trial.verdict}  {trial.seconds:.1f} s", flush=True)


def _unread(case: Case, error: ModelError) -> Trial:
    """Of a case that transformers has run, to find how large its scores are, and that autobackend cannot read."""
    return Trial(
        case=case.name,
        config=case.digest,
        candidate="transformers:sdpa",
        versions={},
        verdict="unread",
        message=error.message.splitlines()[0],
    )


def _say(case: Case, error: ModelError) -> None:
    print(f"{case.name}: {error.message.splitlines()[0]}", file=sys.stderr, flush=True)

"""What a launch of a candidate left: a Measurement or, under load, Served; a Check of its output; or a Failure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

from calibration.codec import LEAST, from_plain, to_plain
from calibration.load.sample import Point
from calibration.rung import Rung
from calibration.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Candidate:
    """A backend variant, `backend:variant` on screens."""

    backend: str
    variant: str

    @property
    def label(self) -> str:
        return f"{self.backend}:{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What was launched, and where.

    Models of the same shapes share their times. What is right and what fails goes by the whole config: two configs of
    the same shapes can compute different functions (embeddings tied or not, a norm of queries and keys or none).
    """

    architecture: str
    quant: str
    """QuantFormat.label: `none`, `awq-4bit-g128` ..."""
    device: str
    """Product name of the GPU, or name of the CPU with its cores."""
    fingerprint: str
    """Hash of the shapes that set the work: layers, hidden, heads, kv heads, head_dim, intermediate, vocab, experts."""
    dtype: str
    device_count: int
    host: str
    """Identifier of the machine: times of one host are at most transferred to another, and said to be."""
    config: str = ""
    """Hash of everything in the config that can change what is computed. Empty in launches of older versions, which did
    not keep it: their times count, their verdicts and failures do not."""
    cut: str = ""
    """Rung.cut: empty for the whole model, `6/32` for its first 6 layers. All else is told of the whole model."""

    def __post_init__(self) -> None:
        if self.cut and Rung.parse(self.cut).whole:
            raise ValueError(f"a cut has fewer layers than the model; found {self.cut}")

    @property
    def layers(self) -> str:
        """`6 of 32 layers`; empty for the whole model."""
        return str(Rung.parse(self.cut)) if self.cut else ""

    @property
    def shape(self) -> tuple[str | int, ...]:
        """What times go by: everything but the config. A launch on a few layers has another than one of the whole."""
        return (
            *(self.architecture, self.quant, self.device, self.fingerprint),
            *(self.dtype, self.device_count, self.host, self.cut),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One timed generate call of a cell. Seconds."""

    ttft_s: float
    """From the call to the moment at which every sequence of the batch has its first token."""
    tpot_s: float | None
    """(t_last - t_first) / (n_last - n_first) of the batch; None where only one token was generated."""
    foreign_cores: float = 0.0
    """Mean number of cores that processes outside the worker's tree kept busy meanwhile."""
    dirty: bool = False
    """Other programs were using the device, and again when the call was repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A workload with its raw samples of one launch."""

    workload: Workload
    samples: tuple[Sample, ...] = field(metadata={LEAST: 1})

    @property
    def clean(self) -> tuple[Sample, ...]:
        """The samples to trust: those that nothing disturbed, or all where everything was disturbed."""
        return tuple(s for s in self.samples if not s.dirty) or self.samples

    @property
    def ttft_s(self) -> float:
        return median(s.ttft_s for s in self.clean)

    @property
    def tpot_s(self) -> float | None:
        timed = [s.tpot_s for s in self.clean if s.tpot_s is not None]
        return median(timed) if timed else None


class OutputVerdict(StrEnum):
    """Is the output right, compared with the reference's?"""

    RIGHT = "right"
    LOSSY = "lossy"
    WRONG = "wrong"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a candidate's output compares with the reference's."""

    verdict: OutputVerdict
    kl: float | None = field(default=None, metadata={LEAST: -1})
    """Mean Kullback-Leibler divergence of the next-token distribution from the reference's, nats. Near 0 it may be
    rounded below 0."""
    top1: float | None = None
    """Share of positions at which both rank the same token first."""
    max_diff: float | None = None
    """Largest difference of a score from the reference's, in standard deviations of the reference's scores."""
    detail: str = ""
    """One sentence: what was compared, or why it is wrong."""


NOT_AS_SERVED = Agreement(verdict=OutputVerdict.UNCHECKED, detail="an older autobackend compared nothing as served")
"""Of launches that were kept without such a verdict."""


class FailureKind(StrEnum):
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    REFUSED = "refused"
    WRONG_OUTPUT = "wrong output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What every outcome carries: one process of one candidate."""

    run_id: str
    """Unique (uuid4 hex), so that a merge of two caches is a union."""
    calibration_id: str
    """Shared by all launches of one calibration. `round` orders them; candidates are compared within a round."""
    round: int
    candidate: Candidate
    identity: Identity
    model: str
    """The model as the user named it; for screens only."""
    environment: dict[str, str]
    """Names and versions that make times comparable (engine, torch, driver ...); calibration.environments.packages."""
    policy: str
    """Version of the way of measuring; launches of another policy are stale."""
    started_at: float
    """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Launch):
    """A launch whose engine loaded the model and answered."""

    load_s: float
    peak_memory_bytes: int
    """Largest resident set of the worker's process tree; with a GPU see gpu_memory_bytes too."""
    agreement: Agreement
    prepare_s: float | None = None
    """Seconds the conversion took when it was made; None where nothing is converted."""
    artifact_bytes: int | None = None
    gpu_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Answered):
    """A launch that was timed. Its output was compared with the reference's in this launch or in an earlier one."""

    cells: tuple[Cell, ...] = field(metadata={LEAST: 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Answered):
    """A launch whose output was compared with the reference's and which was not timed, since the times were known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Answered):
    """A launch whose server was put under load. The output of its engine alone was compared in an earlier launch."""

    slots: int
    """Requests that the server held at once."""
    threads: int
    """With which its engine computed."""
    points: tuple[Point, ...] = field(metadata={LEAST: 1})
    """The loads that it took, one after another."""
    as_served: Agreement = NOT_AS_SERVED
    """The verdict on what it answered to several requests at once, before it was put under load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Launch):
    """A launch that gave no answer, or a wrong answer."""

    kind: FailureKind
    stage: str
    """`prepare`, `load`, `check`, `serve`, `check as served`, or the label of the cell or of the load."""
    message: str
    log_tail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved(Failure):
    """A server that did not become ready, or ended under load. What is known of the candidate's batches stands."""


Outcome = Measurement | Check | Served | Failure


RECORDS: dict[str, type[Outcome]] = {
    "measurement": Measurement,
    "check": Check,
    "served": Served,
    "failure": Failure,
    "unserved": Unserved,
}
"""What an outcome is called where it is stored."""


def timing(arrivals: Sequence[Sequence[float]]) -> tuple[float, float | None]:
    """TTFT and TPOT of one call from the arrival times of its tokens.

    Args:
        arrivals: a row for each sequence, in it the seconds since the call for each token. Tokens that arrive together
            share a time: TPOT divides by tokens, (t_last - t_first) / (n_last - n_first), so that a first chunk of
            several tokens does not inflate it (the formula of lmdeploy.profiler and AIPerf).

    Returns:
        TTFT: when the last sequence has its first token. TPOT: None where no token came after the first chunk. E2E is
        TTFT + (n - 1) * TPOT for n tokens a sequence.

    >>> timing([[0.5, 0.75, 1.0]])
    (0.5, 0.25)
    """
    ttft = max(row[0] for row in arrivals)
    end = max(row[-1] for row in arrivals)
    after = max(len(row) - sum(1 for t in row if t <= ttft) for row in arrivals)
    return ttft, (end - ttft) / after if after else None


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The record of the export format: `record` is one of RECORDS, the rest are the fields by name."""
    fields = to_plain(outcome)
    if isinstance(outcome, Answered):
        # JSON knows no infinity: an infinite divergence is written as none; the verdict, wrong, says the rest.
        for name in ("kl", "max_diff"):
            if not math.isfinite(fields["agreement"][name] or 0.0):
                fields["agreement"][name] = None
    return {"record": next(name for name, kind in RECORDS.items() if kind is type(outcome)), **fields}


def from_json(record: Any) -> Outcome:
    """Read what `to_json` wrote, or somebody else: every field is looked at.

    Raises:
        ValueError: the record is malformed; the message names the field, what it needs and what was found.
    """
    if not isinstance(record, dict):
        raise ValueError(f"needs an object; found {record!r:.40}")
    fields = dict(record)
    kind = fields.pop("record", None)
    if not isinstance(kind, str) or kind not in RECORDS:
        raise ValueError(f"needs a record of {', '.join(RECORDS)}; found {kind!r:.40}")
    return from_plain(RECORDS[kind], fields)

"""Matrix: models x backend variants, host by host; each square a measurement, a refusal, a failure, or untested."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from calibration.measurement import Identity, Measurement, Outcome, OutputVerdict
from calibration.workload import STANDARD, Workload
from selector.evidence import weigh
from selector.publish.figures import Figure, View, figures_of


class State(StrEnum):
    """What is known of a variant for a model on a host."""

    MEASURED = "measured"
    FAILED = "failed"
    REFUSED = "refused"
    LEFT_OUT = "left out"
    UNTESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A verdict as a host file keeps it."""

    label: str
    reasons: tuple[str, ...] = ()
    left_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What one host has measured."""

    host: str
    """Its identifier."""
    device: str
    machine: str
    """CPU, cores and memory, as people say it."""
    published_at: float
    environments: Mapping[str, Mapping[str, str]]
    """Backend name: its environment when this was published."""
    verdicts: Mapping[str, tuple[Judged, ...]]
    """Model, as it was named: the verdicts on every variant, in the static order."""
    outcomes: tuple[Outcome, ...]
    batching: Mapping[str, str] = field(default_factory=dict)
    """Candidate label: what its engine does with several sequences (Facts.batching)."""
    on_request: frozenset[str] = frozenset()
    """Labels that are no candidates there unless named, whatever else is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One model, one variant, one host."""

    label: str
    state: State
    reasons: tuple[str, ...] = ()
    """Why it is refused, left out, or what it said when it failed."""
    differences: tuple[str, ...] = ()
    """What changed since it was measured: stale; empty where nothing did."""
    last: Outcome | None = None
    launches: int = 0
    lossy: bool = False
    figures: Mapping[tuple[View, str], Figure] = field(default_factory=dict)
    """By view and workload label."""
    samples: Mapping[str, tuple[tuple[float, float | None], ...]] = field(default_factory=dict)
    """Cell label: (TTFT, TPOT) of every clean sample, seconds."""
    batching: str = ""

    @property
    def backend(self) -> str:
        return self.label.partition(":")[0]

    @property
    def variant(self) -> str:
        return self.label.partition(":")[2]

    @property
    def measurement(self) -> Measurement | None:
        return self.last if isinstance(self.last, Measurement) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What to ask `calibrate` for, to have launches like these."""

    cells: tuple[Workload, ...]
    backends: tuple[str, ...] = ()
    """Empty: every candidate that there is."""
    lossy: bool = False
    devices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one host."""

    model: str
    identity: Identity
    squares: tuple[Square, ...]
    """One for each of Matrix.labels."""
    newest: float
    again: tuple[Again, ...] = ()
    """One for each set of cells that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Everything that the pages show."""

    hosts: tuple[Published, ...]
    labels: tuple[str, ...]
    """Variants, in the static order."""
    rows: tuple[Row, ...]
    """By host, then model."""
    workloads: tuple[Workload, ...]
    """Those with figures: the standard ones first, then the measured cells."""

    @property
    def backends(self) -> tuple[str, ...]:
        """Those of the labels, in the static order."""
        return tuple(dict.fromkeys(label.partition(":")[0] for label in self.labels))

    def of(self, host: Published) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.identity.host == host.host)


def matrix(hosts: Sequence[Published], order: Sequence[str] = ()) -> Matrix:
    """Lay out what the hosts have measured.

    Args:
        order: labels in the static order; others follow as they come.
    """
    found = [_of_host(host) for host in hosts]
    seen = dict.fromkeys(label for host, models in zip(hosts, found, strict=True) for label in _labels(host, models))
    labels = [label for label in order if label in seen] + [label for label in seen if label not in order]
    cells = {c.workload for host in hosts for o in host.outcomes if isinstance(o, Measurement) for c in o.cells}
    workloads = list(dict.fromkeys((*STANDARD.values(), *sorted(cells, key=lambda w: (w.batch, w.prompt_tokens)))))
    rows = [
        _row(host, model, identity, outcomes, labels, workloads)
        for host, models in zip(hosts, found, strict=True)
        for (identity, model), outcomes in models.items()
    ]
    rows, labels = _without_idle(rows, labels)
    shown = {label for row in rows for square in row.squares for _, label in square.figures}
    return Matrix(
        hosts=tuple(hosts),
        labels=tuple(labels),
        rows=tuple(rows),
        workloads=tuple(w for w in workloads if w.label in shown),
    )


def _without_idle(rows: Sequence[Row], labels: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Leave out the variants that nobody refused, measured or saw fail: they exist on other devices, or on request."""
    idle = {State.LEFT_OUT, State.UNTESTED}
    kept = {square.label for row in rows for square in row.squares if square.state not in idle}
    left = [replace(row, squares=tuple(s for s in row.squares if s.label in kept)) for row in rows]
    return left, [label for label in labels if label in kept]


def _of_host(host: Published) -> dict[tuple[Identity, str], list[Outcome]]:
    """The outcomes of each model, by its newest name; the models sorted by name."""
    groups: dict[Identity, list[Outcome]] = {}
    for outcome in sorted(host.outcomes, key=lambda o: o.started_at):
        groups.setdefault(outcome.identity, []).append(outcome)
    named = {(identity, outcomes[-1].model): outcomes for identity, outcomes in groups.items()}
    return dict(sorted(named.items(), key=lambda item: (item[0][1], item[0][0].fingerprint)))


def _labels(host: Published, models: Mapping[tuple[Identity, str], Sequence[Outcome]]) -> Iterable[str]:
    for (_, model), outcomes in models.items():
        yield from (judged.label for judged in host.verdicts.get(model, ()))
        yield from (outcome.candidate.label for outcome in outcomes)


def _row(
    host: Published,
    model: str,
    identity: Identity,
    outcomes: Sequence[Outcome],
    labels: Sequence[str],
    workloads: Sequence[Workload],
) -> Row:
    known = weigh(outcomes, host.environments)
    verdicts = {judged.label: judged for judged in host.verdicts.get(model, ())}
    lossy = {label: _lossy(record.last) for label, record in (*known.measured.items(), *known.stale.items())}
    # Only what `select` may choose wins: not what is lossy, was left out, or ran with other versions.
    racing = [
        label
        for label in labels
        if label in known.measured and not lossy[label] and not (label in verdicts and _barred(verdicts[label]))
    ]
    launches = {label: [o for o in outcomes if o.candidate.label == label] for label in labels}
    figures = figures_of({**known.stale, **known.measured}, launches, racing, workloads)
    squares = []
    for label in labels:
        judged = verdicts.get(label)
        record = known.measured.get(label) or known.stale.get(label)
        failure = known.failed.get(label)
        if record is not None:
            square = Square(
                label=label,
                state=State.MEASURED,
                differences=record.differences,
                last=record.last,
                launches=len(record.launches),
                lossy=lossy[label],
                figures=figures.get(label, {}),
                samples=_samples(record.last),
                batching=host.batching.get(label, ""),
            )
        elif failure is not None:
            said = f"{failure.kind} in {failure.stage}: {failure.message}"
            square = Square(
                label=label, state=State.FAILED, reasons=(said,), last=failure, launches=len(launches[label])
            )
        elif judged is not None and judged.reasons:
            square = Square(label=label, state=State.REFUSED, reasons=judged.reasons)
        elif judged is not None and judged.left_out:
            square = Square(label=label, state=State.LEFT_OUT, reasons=(judged.left_out,))
        else:
            square = Square(label=label, state=State.UNTESTED)
        squares.append(square)
    return Row(
        model=model,
        identity=identity,
        squares=tuple(squares),
        newest=outcomes[-1].started_at,
        again=_again(identity, outcomes, verdicts, host.on_request),
    )


def _again(
    identity: Identity, outcomes: Sequence[Outcome], verdicts: Mapping[str, Judged], on_request: Collection[str]
) -> tuple[Again, ...]:
    """What was asked for, as far as the launches show it, one for each set of cells."""
    cells_of = {
        o.calibration_id: tuple(dict.fromkeys(c.workload for c in o.cells))
        for o in outcomes
        if isinstance(o, Measurement)
    }
    launched: dict[tuple[Workload, ...], dict[str, bool]] = {}
    for outcome in outcomes:
        # A calibration of failures alone shows no cells; the others of its model say more.
        if outcome.calibration_id in cells_of:
            label = outcome.candidate.label
            labels = launched.setdefault(cells_of[outcome.calibration_id], {})
            labels[label] = labels.get(label, False) or (isinstance(outcome, Measurement) and _lossy(outcome))
    found = []
    for cells, labels in launched.items():
        held_back = {label for label, v in verdicts.items() if v.left_out.startswith(LOSSY) and not v.reasons}
        lossy = any(labels.values()) or not held_back.isdisjoint(labels)
        ordinary = {label for label, v in verdicts.items() if not _barred(v)}
        ordinary |= held_back.difference(on_request) if lossy else set()
        some = bool(verdicts) and ordinary != set(labels)
        found.append(
            Again(
                cells=cells,
                backends=_named(labels, ordinary) if some else (),
                lossy=lossy,
                devices=identity.device_count,
            )
        )
    return tuple(found)


LOSSY = "lossy ("
"""How rules begin to say that a variant is left out for being lossy."""


def _named(labels: Iterable[str], ordinary: Iterable[str]) -> tuple[str, ...]:
    """The labels, a backend's name for all its ordinary variants."""
    found: dict[str, set[str]] = {}
    for label in labels:
        found.setdefault(label.partition(":")[0], set()).add(label)
    whole = {b: {label for label in ordinary if label.partition(":")[0] == b} for b in found}
    return tuple(name for b, its in found.items() for name in ([b] if its == whole[b] else sorted(its)))


def _barred(judged: Judged) -> bool:
    return bool(judged.reasons or judged.left_out)


def _lossy(measurement: Measurement) -> bool:
    return measurement.agreement.verdict is OutputVerdict.LOSSY


def _samples(measurement: Measurement) -> dict[str, tuple[tuple[float, float | None], ...]]:
    return {c.workload.label: tuple((s.ttft_s, s.tpot_s) for s in c.clean) for c in measurement.cells}

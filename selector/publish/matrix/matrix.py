"""Matrix: models x backend variants, host by host; each square a measurement, a refusal, a failure, or untested."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from calibration.measurement import Cell, Failure, Identity, Measurement, Outcome, Served, Unserved
from calibration.workload import STANDARD, Workload
from selector.evidence.evidence import weigh
from selector.predict.limits.roofline import Shares
from selector.publish.hosts.host_file import HostResults, KeptVerdict
from selector.publish.matrix.figures import Figure, View, figures_of
from selector.publish.matrix.rerun import Rerun, is_lossy, reruns_of
from selector.publish.matrix.shares import shares_in


class State(StrEnum):
    """What is known of a variant for a model on a host."""

    MEASURED = "measured"
    FAILED = "failed"
    REFUSED = "refused"
    LEFT_OUT = "left out"
    UNTESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One model, one variant, one host."""

    label: str
    state: State
    reasons: tuple[str, ...] = ()
    """Why it is refused, left out, or what it said when it failed."""
    differences: tuple[str, ...] = ()
    """What changed since it was measured; it is stale where something did."""
    last: Measurement | Failure | None = None
    """Its newest launch."""
    launches: int = 0
    lossy: bool = False
    may_win: bool = False
    """`select` may choose it: it is neither lossy, nor stale, nor refused or left out."""
    figures: Mapping[tuple[View, str], Figure] = field(default_factory=dict)
    """By view and workload label."""
    batching: str = ""
    shares: Mapping[str, Shares] = field(default_factory=dict)
    """What the cells of its newest launch reach of the machine's limits, by workload label."""

    @property
    def backend(self) -> str:
        return self.label.partition(":")[0]

    @property
    def variant(self) -> str:
        return self.label.partition(":")[2]

    @property
    def measurement(self) -> Measurement | None:
        return self.last if isinstance(self.last, Measurement) else None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The timed cells of its newest launch."""
        return self.last.cells if isinstance(self.last, Measurement) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one host."""

    model: str
    identity: Identity
    squares: tuple[Square, ...]
    """In the order of Matrix.labels, a square for each label."""
    reruns: tuple[Rerun, ...] = ()
    """What measures it again, for each set of cells that was measured."""

    def of_backend(self, backend: str) -> tuple[Square, ...]:
        """The squares of a backend's variants, in the static order."""
        return tuple(s for s in self.squares if s.backend == backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Everything that the pages show."""

    hosts: tuple[HostResults, ...]
    labels: tuple[str, ...]
    """Variants, in the static order."""
    rows: tuple[Row, ...]
    """By host, then model."""

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends of the labels, in the static order."""
        return tuple(dict.fromkeys(label.partition(":")[0] for label in self.labels))

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The workloads with a figure on some host: the standard ones first, then the measured cells."""
        return _in_order(w for host in self.hosts for w in self.workloads_of(host))

    def of(self, host: HostResults) -> tuple[Row, ...]:
        """The rows of a host."""
        return tuple(row for row in self.rows if row.identity.host == host.host)

    def workloads_of(self, host: HostResults) -> tuple[Workload, ...]:
        """The workloads with a figure on this host: the standard ones first, then the cells that it measured."""
        labels = {label for row in self.of(host) for square in row.squares for _, label in square.figures}
        return _in_order(Workload.parse(label) for label in labels)


def matrix(hosts: Sequence[HostResults], order: Sequence[str] = ()) -> Matrix:
    """Lay out what the hosts have measured.

    Args:
        order: labels in the static order; other labels follow as they come.
    """
    models_of = [outcomes_by_model(host) for host in hosts]
    seen = dict.fromkeys(
        label for host, models in zip(hosts, models_of, strict=True) for label in _labels(host, models)
    )
    labels = [label for label in order if label in seen] + [label for label in seen if label not in order]
    rows = [
        _row(host, model, identity, outcomes, labels)
        for host, models in zip(hosts, models_of, strict=True)
        for (identity, model), outcomes in models.items()
    ]
    rows, labels = _without_idle(rows, labels)
    return Matrix(hosts=tuple(hosts), labels=tuple(labels), rows=tuple(rows))


def outcomes_by_model(host: HostResults) -> dict[tuple[Identity, str], list[Outcome]]:
    """The outcomes of each model's shape, under the model's newest name; the models sorted by name.

    Models of one shape share their times, so each has the launches of all of them; `weigh` sorts whose verdicts count.
    """
    by_shape: dict[tuple[str | int, ...], list[Outcome]] = {}
    names: dict[Identity, str] = {}
    for outcome in sorted(host.outcomes, key=lambda o: o.started_at):
        if isinstance(outcome, Served | Unserved):
            continue  # they have a table of their own
        by_shape.setdefault(outcome.identity.shape, []).append(outcome)
        names[outcome.identity] = outcome.model
    # Launches from before configs were kept have no row of their own once their model was launched again.
    known = {(identity.shape, name) for identity, name in names.items() if identity.config}
    models = {
        (identity, name): by_shape[identity.shape]
        for identity, name in names.items()
        if identity.config or (identity.shape, name) not in known
    }
    return dict(
        sorted(models.items(), key=lambda item: (item[0][1], item[0][0].fingerprint, item[0][0].config, item[0][0].cut))
    )


def _labels(host: HostResults, models: Mapping[tuple[Identity, str], Sequence[Outcome]]) -> Iterable[str]:
    for (_, model), outcomes in models.items():
        yield from (verdict.label for verdict in host.verdicts.get(model, ()))
        yield from (outcome.candidate.label for outcome in outcomes)


def _without_idle(rows: Sequence[Row], labels: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Leave out the variants that nobody refused, measured or saw fail: they exist on other devices, or on request."""
    idle = {State.LEFT_OUT, State.UNTESTED}
    kept = {square.label for row in rows for square in row.squares if square.state not in idle}
    shorter = [replace(row, squares=tuple(s for s in row.squares if s.label in kept)) for row in rows]
    return shorter, [label for label in labels if label in kept]


def _row(host: HostResults, model: str, identity: Identity, outcomes: Sequence[Outcome], labels: Sequence[str]) -> Row:
    known = weigh(outcomes, identity.config, host.environments)
    verdicts = {verdict.label: verdict for verdict in host.verdicts.get(model, ())}
    # The newest launch may be of another model of this shape: what it says of the output is that model's.
    lasts = {
        label: replace(record.last, agreement=record.agreement)
        for label, record in (*known.measured.items(), *known.stale.items())
    }
    may_win = [
        label
        for label in known.measured
        if not is_lossy(lasts[label]) and not (label in verdicts and _barred(verdicts[label]))
    ]
    launches = {label: [o for o in outcomes if o.candidate.label == label] for label in labels}
    figures = figures_of(
        {**known.stale, **known.measured},
        launches,
        may_win=[label for label in labels if label in may_win],
        workloads=_standard_and_measured(host),
        device_kind=host.device_kind,
    )
    squares = []
    for label in labels:
        verdict = verdicts.get(label)
        record = known.measured.get(label) or known.stale.get(label)
        failure = known.failed.get(label)
        if record is not None:
            square = Square(
                label=label,
                state=State.MEASURED,
                differences=record.differences,
                last=lasts[label],
                launches=len(record.launches),
                lossy=is_lossy(lasts[label]),
                may_win=label in may_win,
                figures=figures.get(label, {}),
                batching=host.batching.get(label, ""),
                shares=shares_in(host, model, lasts[label]),
            )
        elif failure is not None:
            message = f"{failure.kind} in {failure.stage}: {failure.message}"
            own = [o for o in launches[label] if o.identity.config == identity.config]
            square = Square(label=label, state=State.FAILED, reasons=(message,), last=failure, launches=len(own))
        elif verdict is not None and verdict.reasons:
            square = Square(label=label, state=State.REFUSED, reasons=verdict.reasons)
        elif verdict is not None and verdict.left_out:
            square = Square(label=label, state=State.LEFT_OUT, reasons=(verdict.left_out,))
        else:
            square = Square(label=label, state=State.UNTESTED)
        squares.append(square)
    return Row(
        model=model,
        identity=identity,
        squares=tuple(squares),
        reruns=reruns_of(identity, outcomes, verdicts, host.on_request),
    )


def _barred(verdict: KeptVerdict) -> bool:
    return bool(verdict.reasons or verdict.left_out)


def _standard_and_measured(host: HostResults) -> tuple[Workload, ...]:
    """The workloads that a host's figures are of. What others timed says nothing more about this host."""
    cells = {c.workload for o in host.outcomes if isinstance(o, Measurement) for c in o.cells}
    return _in_order((*STANDARD.values(), *cells))


def _in_order(workloads: Iterable[Workload]) -> tuple[Workload, ...]:
    """Each workload once: the standard ones first, then by batch and prompt."""
    each = set(workloads)
    standard = [w for w in STANDARD.values() if w in each]
    return (*standard, *sorted(each.difference(standard), key=lambda w: (w.batch, w.prompt_tokens, w.output_tokens)))

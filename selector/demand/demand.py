"""Demand: what the user wants done with a model, checked in one place; and the command-line words that ask for it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from calibration.errors import UsageError
from calibration.load.load import Load
from calibration.load.replay import Replay
from calibration.load.use import Use, batch_of, largest_of, most_tokens_of, parse_use, title_of
from calibration.registry import find
from calibration.workload import DEFAULT, Workload
from selector.demand.objective import Objective
from selector.demand.targets import Targets

T = TypeVar("T")


class DemandOptions(TypedDict, total=False):
    """The keywords of select, explain, plan and calibrate that say what is wanted; together they are a Demand.

    workload, workloads: labels of static batches (`pp512:tg128:b1`) or of loads (`pp512:tg128:c8`, `pp512:tg128:r0.5`),
        or standard names (`chat`, `serve`). `select` and `explain` take one. Default: ordinary use.
    trace, traces: files of requests that really came, each a load as well: when each came, and how long its prompt and
        its answer were. Requests that are longer than the model's context are left out.
    trace_s: of each trace the first so many seconds; by default 600.
    objective: what the answer should be best at: an Objective or its word.
    ttft_s, tpot_s: targets: the longest time to the first token, and per output token after it. Of the candidates that
        meet them the objective chooses; of candidates that all miss them, the nearest answers.
    price_per_hour: what this machine costs, in any currency: each candidate's cost of a million tokens is told.
    backend, backends: only these backends (`transformers`) or variants (`transformers:sdpa`) may answer. If none of
        them can run the model, the call fails with every reason.
    allow_lossy: variants less precise than the model, such as int8, may be candidates.
    max_kl: they may be candidates if their measured divergence from the reference is at most this many nats.
    trust_remote_code: the code in the model's repository may run.
    tensor_parallel: how many devices run the model together.
    kv_cache_bits: how many bits a number in the KV cache has. Only `explain` takes others than 16: all measurements
        have 16.
    """

    workload: Use | str | None
    workloads: Sequence[Use | str]
    trace: str | Path | None
    traces: Sequence[str | Path]
    trace_s: float | None
    objective: Objective | str
    ttft_s: float | None
    tpot_s: float | None
    price_per_hour: float | None
    backend: str | None
    backends: Sequence[str]
    allow_lossy: bool
    max_kl: float | None
    trust_remote_code: bool
    tensor_parallel: int
    kv_cache_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the user wants done with a model. `Demand.of` makes one from keywords and checks the backends' names.

    Raises:
        UsageError: a value that cannot be.
    """

    workloads: tuple[Use, ...] = ()
    """What the answer is for: static batches, and loads that a server is to take. Empty: ordinary use, and the answer
    is for DEFAULT."""
    objective: Objective = Objective.LATENCY
    ttft_s: float | None = None
    tpot_s: float | None = None
    """Targets. The objective orders the candidates that meet them."""
    price_per_hour: float | None = None
    backends: tuple[str, ...] = ()
    """Labels (`transformers`, `transformers:compile`): only these may answer. The label of a variant that runs only on
    request (`Variant.on_request`) requests it."""
    allow_lossy: bool = False
    max_kl: float | None = None
    """Largest measured divergence of a lossy candidate, nats. If it is given, lossy candidates are allowed up to it."""
    trust_remote_code: bool = False
    tensor_parallel: int = 1
    kv_cache_bits: int = 16
    """Only the rules read it: all measurements have a KV cache of 16 bits."""
    replays: tuple[Replay, ...] = field(default=(), compare=False, repr=False)
    """The traces whose loads are among the workloads, with their requests; a load is known by what is in its trace."""

    def __post_init__(self) -> None:
        if self.tensor_parallel < 1:
            raise UsageError(f"needs 1 device or more; found {self.tensor_parallel}")
        if self.max_kl is not None and not self.max_kl > 0:
            raise UsageError(f"needs a divergence of more than 0 nats; found {self.max_kl:g}")
        if self.kv_cache_bits < 1:
            raise UsageError(f"needs a KV cache of 1 bit or more; found {self.kv_cache_bits}")
        if self.price_per_hour is not None and not 0 < self.price_per_hour < inf:
            raise UsageError(f"needs a price of more than 0 per hour; found {self.price_per_hour:g}")
        if self.targets.tpot_s is not None and (
            short := [title_of(use) for use in self.workloads if most_tokens_of(use) == 1]
        ):
            raise UsageError(f"a time per output token needs 2 output tokens or more; found {', '.join(short)}")

    @classmethod
    def of(cls, demand: "Demand | None" = None, /, **options: Unpack[DemandOptions]) -> "Demand":
        """`demand`, or else a demand for ordinary use, changed by these options.

        Raises:
            UsageError: an unknown workload, objective, backend or variant, a trace that cannot be read, or a value that
                cannot be.
        """
        changes: dict[str, Any] = dict(options)
        workload, backend = changes.pop("workload", None), changes.pop("backend", None)
        replays = _replays(changes)
        if workload is not None or "workloads" in changes:
            texts = _several(changes.get("workloads", ()), workload)
            changes["workloads"] = tuple(parse_use(use) if isinstance(use, str) else use for use in texts)
        if replays:
            changes["workloads"] = (*changes.get("workloads", ()), *(replay.load for replay in replays))
            changes["replays"] = replays
        if backend is not None or "backends" in changes:
            changes["backends"] = _several(changes.get("backends", ()), backend)
        if "objective" in changes:
            changes["objective"] = Objective.parse(changes["objective"])
        made = cls(**changes) if demand is None else replace(demand, **changes) if changes else demand
        for label in made.backends:
            _check_label(label)
        _check_goodput(made)
        return made

    @property
    def use(self) -> Use:
        """What the answer is for; the first if there are several."""
        return self.workloads[0] if self.workloads else DEFAULT

    @property
    def workload(self) -> Workload:
        """The static batch that the answer is for, or the one that is nearest to its load."""
        return batch_of(self.use)

    @property
    def largest(self) -> Workload:
        """What memory and context must hold for the answer."""
        return largest_of(self.use)

    @property
    def batches(self) -> tuple[Workload, ...]:
        """The static batches among what is asked for."""
        return tuple(use for use in self.workloads if isinstance(use, Workload))

    @property
    def loads(self) -> tuple[Load, ...]:
        """The loads among what is asked for."""
        return tuple(use for use in self.workloads if isinstance(use, Load))

    @property
    def targets(self) -> Targets:
        """The longest times that are accepted."""
        return Targets(ttft_s=self.ttft_s, tpot_s=self.tpot_s)

    @property
    def lossy(self) -> bool:
        """Whether lossy variants may be candidates."""
        return self.allow_lossy or self.max_kl is not None

    @property
    def forced(self) -> bool:
        """Whether the user named the backends that may answer."""
        return bool(self.backends)

    def names(self, label: str) -> bool:
        """Whether the candidate with this label may answer: every candidate may if the user named no backend."""
        return not self.backends or label in self.backends or label.partition(":")[0] in self.backends

    def for_one(self, use: Use) -> "Demand":
        """The same demand for this use alone."""
        return replace(self, workloads=(use,))

    def answerable(self) -> "Demand":
        """This demand, if one answer can meet it.

        Raises:
            UsageError: it has several workloads, and each of them may have another answer.
        """
        if len(self.workloads) > 1:
            raise UsageError(
                f"an answer is for one workload; found {', '.join(map(title_of, self.workloads))}",
                "ask for each of them by itself",
            )
        return self

    def measurable(self) -> "Demand":
        """This demand, if measurements can meet it.

        Raises:
            UsageError: its KV cache does not have 16 bits.
        """
        if self.kv_cache_bits != 16:
            raise UsageError(f"what is measured has a KV cache of 16 bits; found {self.kv_cache_bits} asked for")
        return self

    def replay_of(self, use: Use) -> Replay | None:
        """The trace of a load; None of others, and of one whose file was not named."""
        return next((replay for replay in self.replays if replay.load == use), None)

    def for_positions(self, positions: int) -> "Demand":
        """The same demand of a model with so many positions: of its traces what such a model can answer.

        Args:
            positions: 0 where the config names no limit.

        Raises:
            UsageError: too many requests of a trace are longer.
        """
        if not self.replays:
            return self
        fitting = {replay.load: replay.within(positions) for replay in self.replays}
        uses = (fitting[use].load if isinstance(use, Load) and use in fitting else use for use in self.workloads)
        return replace(self, workloads=tuple(uses), replays=tuple(fitting.values()))

    def options(self) -> list[str]:
        """The command-line words for this demand; defaults need none."""
        words = _words_of_uses(self)
        words += ["--objective", str(self.objective)] if self.objective is not Objective.LATENCY else []
        words += ["--ttft", f"{self.ttft_s:.12g}"] if self.ttft_s is not None else []
        words += ["--tpot", f"{self.tpot_s:.12g}"] if self.tpot_s is not None else []
        words += ["--price", f"{self.price_per_hour:.12g}"] if self.price_per_hour is not None else []
        words += ["--backends", ",".join(self.backends)] if self.backends else []
        words += ["--allow-lossy"] if self.allow_lossy else []
        words += ["--max-kl", f"{self.max_kl:.12g}"] if self.max_kl is not None else []
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        words += ["--tensor-parallel", str(self.tensor_parallel)] if self.tensor_parallel != 1 else []
        return words

    def command(self, name: str, model: str) -> str:
        """The command `name` for this demand, as a user types it: `autobackend calibrate MODEL --max-kl 0.1`."""
        return shlex.join(["autobackend", name, model, *self.options()])


def _several(many: Sequence[T] | str, first: T | str | None) -> tuple[T | str, ...]:
    """The values of an option's plural (`backends`) and of its singular (`backend`); a text is one value."""
    values = (many,) if isinstance(many, str) else tuple(many)
    return values if first is None else (first, *values)


def _replays(changes: dict[str, Any]) -> tuple[Replay, ...]:
    """The traces that these options name; they are taken out of them."""
    files, seconds = _several(changes.pop("traces", ()), changes.pop("trace", None)), changes.pop("trace_s", None)
    if seconds is not None and not files:
        raise UsageError(f"the first {seconds:g} s are of a trace; found none", "name its file: --trace FILE")
    return tuple(Replay.read(file, seconds) for file in files)


def _words_of_uses(demand: Demand) -> list[str]:
    """The words for the workloads and the traces."""
    words: list[str] = []
    seconds: float | None = None
    for use in () if demand.workloads == (DEFAULT,) else demand.workloads:
        if replay := demand.replay_of(use):
            words += ["--trace", replay.file]
            seconds = replay.asked_s or seconds
        else:
            words += ["--workload", use.label]
    return words + (["--trace-seconds", f"{seconds:.12g}"] if seconds else [])


def _check_label(label: str) -> None:
    """Raises UsageError for an unknown backend or variant."""
    name, _, variant = label.partition(":")
    variants = [v.name for v in find(name).variants]
    if label != name and variant not in variants:
        raise UsageError(f"unknown variant {label!r}", f"variants of {name}: {', '.join(variants)}")


def _check_goodput(demand: Demand) -> None:
    """Raises UsageError where goodput is asked for of a static batch, or without a target."""
    if demand.objective is not Objective.GOODPUT:
        return
    uses = demand.workloads or (DEFAULT,)
    if batches := [use.label for use in uses if isinstance(use, Workload)]:
        raise UsageError(
            f"goodput is of a load, not of a batch; found {', '.join(batches)}",
            "name one: --workload serve, --workload pp512:tg128:c8",
        )
    if not demand.targets:
        raise UsageError(
            "goodput counts the requests that meet targets; found none", "add --ttft or --tpot, in seconds"
        )

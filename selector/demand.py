"""Demand: what the user wants done with a model, checked in one place; and the command-line words that ask for it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, TypedDict, TypeVar, Unpack

from calibration.errors import UsageError
from calibration.load.load import Load
from calibration.load.use import Use, batch_of, largest_of, parse_use
from calibration.registry import find
from calibration.workload import DEFAULT, Workload
from selector.objective import Objective
from selector.targets import Targets

T = TypeVar("T")


class DemandOptions(TypedDict, total=False):
    """The keywords of select, explain, plan and calibrate that say what is wanted; together they are a Demand.

    workload, workloads: labels of static batches (`pp512:tg128:b1`) or of loads (`pp512:tg128:c8`, `pp512:tg128:r0.5`),
        or standard names (`chat`, `serve`). `select` and `explain` take one. Default: ordinary use.
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
            short := [use.label for use in self.workloads if largest_of(use).output_tokens == 1]
        ):
            raise UsageError(f"a time per output token needs 2 output tokens or more; found {', '.join(short)}")

    @classmethod
    def of(cls, demand: "Demand | None" = None, /, **options: Unpack[DemandOptions]) -> "Demand":
        """`demand`, or else a demand for ordinary use, changed by these options.

        Raises:
            UsageError: an unknown workload, objective, backend or variant, or a value that cannot be.
        """
        changes: dict[str, Any] = dict(options)
        workload, backend = changes.pop("workload", None), changes.pop("backend", None)
        if workload is not None or "workloads" in changes:
            texts = _several(changes.get("workloads", ()), workload)
            changes["workloads"] = tuple(parse_use(use) if isinstance(use, str) else use for use in texts)
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
            raise UsageError(f"an answer is for one workload; found {', '.join(w.label for w in self.workloads)}")
        return self

    def measurable(self) -> "Demand":
        """This demand, if measurements can meet it.

        Raises:
            UsageError: its KV cache does not have 16 bits.
        """
        if self.kv_cache_bits != 16:
            raise UsageError(f"what is measured has a KV cache of 16 bits; found {self.kv_cache_bits} asked for")
        return self

    def options(self) -> list[str]:
        """The command-line words for this demand; defaults need none."""
        labels = [] if self.workloads == (DEFAULT,) else [workload.label for workload in self.workloads]
        words = [word for label in labels for word in ("--workload", label)]
        words += ["--objective", str(self.objective)] if self.objective is not Objective.LATENCY else []
        words += ["--ttft", f"{self.ttft_s:.12g}"] if self.ttft_s is not None else []
        words += ["--tpot", f"{self.tpot_s:.12g}"] if self.tpot_s is not None else []
        words += ["--price", f"{self.price_per_hour:.12g}"] if self.price_per_hour is not None else []
        words += ["--backends", ",".join(self.backends)] if self.backends else []
        words += ["--allow-lossy"] if self.allow_lossy else []
        words += ["--max-kl", f"{self.max_kl:g}"] if self.max_kl is not None else []
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

"""Demand: what the user wants done with a model, checked once, and the words that ask the command for it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, TypeVar, Unpack

from calibration.errors import UsageError
from calibration.registry import find
from calibration.workload import DEFAULT, Workload
from selector.objective import Objective

T = TypeVar("T")


class DemandOptions(TypedDict, total=False):
    """What select, explain, plan and calibrate may be asked, as keywords; all of them together are a Demand.

    workload, workloads: labels (`pp512:tg128:b1`) or standard names (`chat`); by default ordinary use. `select` and
        `explain` answer for one.
    objective: what the answer is to be best at, by its word or as an Objective.
    backend, backends: only these, as `backend` or `backend:variant`; used, or refused with every reason.
    allow_lossy: variants less precise than the model, such as int8, may be candidates.
    max_kl: they may, where their measured divergence from the reference is at most so many nats.
    trust_remote_code: code of the model's own repository may run.
    tensor_parallel: devices at once.
    kv_cache_bits: of a number in the KV cache; for `explain` alone, since what is measured has one of 16 bits.
    """

    workload: Workload | str | None
    workloads: Sequence[Workload | str]
    objective: Objective | str
    backend: str | None
    backends: Sequence[str]
    allow_lossy: bool
    max_kl: float | None
    trust_remote_code: bool
    tensor_parallel: int
    kv_cache_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the user wants done with a model. Made by `Demand.of`, which knows which backends there are.

    Raises:
        UsageError: a value that cannot be.
    """

    workloads: tuple[Workload, ...] = ()
    """What the answer is for; empty: ordinary use, of which DEFAULT is answered for."""
    objective: Objective = Objective.LATENCY
    backends: tuple[str, ...] = ()
    """Labels (`transformers`, `transformers:compile`): only these. A variant's own label lifts its `on_request`."""
    allow_lossy: bool = False
    max_kl: float | None = None
    """Largest measured divergence of a lossy candidate, nats; where given, lossy ones are allowed up to it."""
    trust_remote_code: bool = False
    tensor_parallel: int = 1
    kv_cache_bits: int = 16
    """Read by the rules alone: what is measured has a KV cache of 16 bits."""

    def __post_init__(self) -> None:
        if self.tensor_parallel < 1:
            raise UsageError(f"needs 1 device or more; found {self.tensor_parallel}")
        if self.max_kl is not None and not self.max_kl > 0:
            raise UsageError(f"needs a divergence of more than 0 nats; found {self.max_kl:g}")
        if self.kv_cache_bits < 1:
            raise UsageError(f"needs a KV cache of 1 bit or more; found {self.kv_cache_bits}")

    @classmethod
    def of(cls, demand: "Demand | None" = None, /, **options: Unpack[DemandOptions]) -> "Demand":
        """`demand`, by default an ordinary one, changed by these options.

        Raises:
            UsageError: an unknown workload, objective, backend or variant, or a value that cannot be.
        """
        changes: dict[str, Any] = dict(options)
        workload, backend = changes.pop("workload", None), changes.pop("backend", None)
        if workload is not None or "workloads" in changes:
            texts = _several(changes.get("workloads", ()), workload)
            changes["workloads"] = tuple(w if isinstance(w, Workload) else Workload.parse(w) for w in texts)
        if backend is not None or "backends" in changes:
            changes["backends"] = _several(changes.get("backends", ()), backend)
        if "objective" in changes:
            changes["objective"] = Objective.parse(changes["objective"])
        made = cls(**changes) if demand is None else replace(demand, **changes) if changes else demand
        for label in made.backends:
            _check_label(label)
        return made

    @property
    def workload(self) -> Workload:
        """The one that is answered for; of several the first."""
        return self.workloads[0] if self.workloads else DEFAULT

    @property
    def lossy(self) -> bool:
        """Lossy variants may be candidates."""
        return self.allow_lossy or self.max_kl is not None

    @property
    def forced(self) -> bool:
        """The user named who may answer."""
        return bool(self.backends)

    def names(self, label: str) -> bool:
        """Whether a candidate of this label may answer: all may where no backend is named."""
        return not self.backends or label in self.backends or label.partition(":")[0] in self.backends

    def measurable(self) -> "Demand":
        """This demand, where it is one that measurements can meet.

        Raises:
            UsageError: it is not.
        """
        if self.kv_cache_bits != 16:
            raise UsageError(f"what is measured has a KV cache of 16 bits; found {self.kv_cache_bits} asked for")
        return self

    def for_an_answer(self) -> "Demand":
        """This demand, where one answer can meet it.

        Raises:
            UsageError: it is not measurable, or asks for several workloads, which may have several answers.
        """
        if len(self.workloads) > 1:
            raise UsageError(f"an answer is for one workload; found {', '.join(w.label for w in self.workloads)}")
        return self.measurable()

    def for_one(self, workload: Workload) -> "Demand":
        """The same for this workload alone."""
        return replace(self, workloads=(workload,))

    def options(self) -> list[str]:
        """The command-line words that ask for this: none for what the commands take by default."""
        labels = [] if self.workloads == (DEFAULT,) else [workload.label for workload in self.workloads]
        words = [word for label in labels for word in ("--workload", label)]
        words += ["--objective", str(self.objective)] if self.objective is not Objective.LATENCY else []
        words += ["--backends", ",".join(self.backends)] if self.backends else []
        words += ["--allow-lossy"] if self.allow_lossy else []
        words += ["--max-kl", f"{self.max_kl:g}"] if self.max_kl is not None else []
        words += ["--trust-remote-code"] if self.trust_remote_code else []
        words += ["--tensor-parallel", str(self.tensor_parallel)] if self.tensor_parallel != 1 else []
        return words

    def command(self, name: str, model: str) -> str:
        """`autobackend calibrate MODEL --workload ...`: the command `name` for this demand, as a user types it."""
        return shlex.join(["autobackend", name, model, *self.options()])


def _several(many: Sequence[T] | str, first: T | str | None) -> tuple[T | str, ...]:
    """Values of a plural option and of its singular; a single text stands for itself, not for its letters."""
    given = (many,) if isinstance(many, str) else tuple(many)
    return given if first is None else (first, *given)


def _check_label(label: str) -> None:
    """Raises UsageError for an unknown backend or variant."""
    name, _, variant = label.partition(":")
    variants = [v.name for v in find(name).variants]
    if label != name and variant not in variants:
        raise UsageError(f"unknown variant {label!r}", f"variants of {name}: {', '.join(variants)}")

"""Rule: a function that judges a combination; its name and its docstring are its line in the table of rules."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from selector.rules.combination import Combination

Finding = str | tuple[str, str] | list[str] | None
"""What a rule returns: nothing, `needs X; found Y`, that with its mend, or several."""

Judging = Callable[[Combination], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why not: `needs X; found Y`, and the mend where there is one."""

    rule: str
    """Name of the rule's function."""
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, as `backend_rule` or `variant_rule` registered it."""

    judging: Judging
    of_backend: bool
    """It judges the backend: its finding is the same for all variants. Else it judges the variant."""

    @property
    def name(self) -> str:
        return self.judging.__name__

    @property
    def sentence(self) -> str:
        return " ".join((self.judging.__doc__ or "").split())

    def to_json(self) -> dict[str, str]:
        """As `autobackend rules --json` prints it."""
        return {"rule": self.name, "sentence": self.sentence}

    def reasons(self, case: Combination) -> list[Reason]:
        """Why the combination is not legal; empty where this rule has nothing against it."""
        match self.judging(case):
            case None:
                return []
            case str(text):
                return [Reason(rule=self.name, text=text)]
            case list(texts):
                return [Reason(rule=self.name, text=text) for text in texts]
            case (text, mend):
                return [Reason(rule=self.name, text=text, mend=mend)]


_registered: list[Rule] = []


def backend_rule(judging: Judging) -> Judging:
    """Register a rule that judges a backend, whichever of its variants is to run."""
    _registered.append(Rule(judging=judging, of_backend=True))
    return judging


def variant_rule(judging: Judging) -> Judging:
    """Register a rule that judges one variant."""
    _registered.append(Rule(judging=judging, of_backend=False))
    return judging


def rules_of(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that these modules registered, as they stand there: those of the backend, then those of the variant."""
    rules = [rule for module in modules for rule in _registered if rule.judging.__module__ == module.__name__]
    return tuple(sorted(rules, key=lambda rule: not rule.of_backend))

"""The correctness check of what is served: the check's prompts, asked of a server that is up, several at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from calibration.check.agreement import NEW_TOKENS, Answers
from calibration.check.at_once import (
    Chosen,
    Course,
    Prefix,
    beside_itself,
    course,
    judge,
    needs_itself,
    unknown,
)
from calibration.events import Reporter, ServedCheckBegan, ServedCheckEnded, ServingEvent
from calibration.launch.checker import Checker
from calibration.launch.session import Session
from calibration.measurement import Agreement, OutputVerdict, Served, Unserved
from calibration.served.place import AskAtOnce, AtOnce, Hold, Server, Untold, Wanted
from calibration.supervision.deadline import LEAST_S, Deadline
from calibration.supervision.launch_spec import LaunchSpec

RUNNING_TOKENS = 32
"""Of the answer beside which the others run: four times as many as those have, so that it is there to their end. It is
cut off then."""

Place = tuple[str, int, int]
"""A candidate's label, slots and threads: servers that differ in these may compute by other kernels."""


@dataclass(slots=True, kw_only=True)
class ServedChecker:
    """Checks each candidate as it is served, once for each number of slots and of threads.

    Args:
        agreements: what was found, by earlier launches too.
    """

    session: Session
    reporter: Reporter[ServingEvent]
    checker: Checker
    ask: AskAtOnce
    agreements: dict[Place, Agreement] = field(default_factory=dict)
    seconds: float = 0.0
    """Spent on these checks so far; the reference is counted by `checker`."""

    def get_ready(self, spec: LaunchSpec, hold: Hold) -> None:
        """Have the reference's answers, where they are needed, before the server is there: both need memory."""
        if _place(spec, hold) not in self.agreements:
            self.checker.reference()

    def check(self, spec: LaunchSpec, hold: Hold, server: Server, deadline: Deadline) -> Agreement:
        """The verdict on what a server answers, or that on an earlier server of its kind."""
        place = _place(spec, hold)
        if place in self.agreements:
            return self.agreements[place]
        reference = self.checker.reference()
        if reference is None:
            return _unchecked("no reference could be computed here")
        self.reporter.report(ServedCheckBegan(candidate=spec.label))
        began = self.session.clock()
        agreement = self._compare(spec, hold, server, deadline, reference)
        self.seconds += self.session.clock() - began
        if agreement.verdict is not OutputVerdict.UNCHECKED:
            self.agreements[place] = agreement
        self.reporter.report(ServedCheckEnded(candidate=spec.label, agreement=agreement))
        return agreement

    def _compare(
        self, spec: LaunchSpec, hold: Hold, server: Server, deadline: Deadline, reference: Answers
    ) -> Agreement:
        """Ask; and where all answers leave the reference's path, ask again for what comes after its own token.

        In 4 bits answers leave it soon, and may be far from it: there each is asked once more, alone.
        """
        prompts, precision = self.session.check_prompts(), self.checker.precision_of(spec)
        able = [number for number, prompt in enumerate(prompts) if len(prompt) + NEW_TOKENS <= hold.context_tokens]
        if not able:
            return _unchecked(f"a context of {hold.context_tokens} tokens holds none of the check's prompts")
        due: Course | tuple[Prefix, ...] = course(able, hold.slots)
        chosen, at_once = list[Chosen](), list[Chosen]()
        while True:
            told = self.ask(server, _at_once(due, prompts, reference, hold), self._limit_s(deadline))
            if isinstance(told, Untold):
                verdict = OutputVerdict.WRONG if told.wrong else OutputVerdict.UNCHECKED
                return Agreement(verdict=verdict, detail=told.reason)
            asked = zip(_all_of(due), told, strict=True)
            new = [Chosen(after=after, tokens=tokens) for after, tokens in asked if tokens]
            chosen += new
            at_once = at_once or new
            agreement = judge(reference, chosen, able, precision)
            due = unknown(reference, chosen, able)
            if agreement.verdict is OutputVerdict.WRONG or not due or not new:
                break
        if agreement.verdict is not OutputVerdict.LOSSY or not needs_itself(precision):
            return agreement
        alone = list[Chosen]()
        for after in dict.fromkeys(one.after for one in at_once):
            told = self.ask(server, _at_once((after,), prompts, reference, hold), self._limit_s(deadline))
            if isinstance(told, Untold):
                return _unchecked(told.reason)
            alone.append(Chosen(after=after, tokens=told[0]))
        wrong = beside_itself(at_once, alone)
        return Agreement(verdict=OutputVerdict.WRONG, detail=wrong) if wrong else agreement

    def _limit_s(self, deadline: Deadline) -> float:
        left_s, limit_s = deadline.left_s(), self.session.limits.load_s
        return limit_s if left_s is None else max(LEAST_S, min(limit_s, left_s))


def known_verdicts(launches: Iterable[Served | Unserved]) -> dict[Place, Agreement]:
    """What launches have found of what was served."""
    return {
        (launch.candidate.label, launch.slots, launch.threads): launch.as_served
        for launch in launches
        if isinstance(launch, Served) and launch.as_served.verdict is not OutputVerdict.UNCHECKED
    }


def _all_of(due: Course | tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    """In the order in which AskAtOnce tells their answers."""
    return (due.running, *due.first, *due.late) if isinstance(due, Course) else due


def _at_once(
    due: Course | tuple[Prefix, ...], prompts: Sequence[Sequence[int]], reference: Answers, hold: Hold
) -> AtOnce:
    def wanted(after: Prefix) -> Wanted:
        return Wanted(prompt=after.tokens(prompts, reference), new_tokens=after.new_tokens)

    if not isinstance(due, Course):
        return AtOnce(first=tuple(map(wanted, due)))
    prompt = due.running.tokens(prompts, reference)
    return AtOnce(
        running=Wanted(prompt=prompt, new_tokens=min(RUNNING_TOKENS, hold.context_tokens - len(prompt))),
        first=tuple(map(wanted, due.first)),
        late=tuple(map(wanted, due.late)),
    )


def _place(spec: LaunchSpec, hold: Hold) -> Place:
    return spec.label, hold.slots, hold.threads


def _unchecked(detail: str) -> Agreement:
    return Agreement(verdict=OutputVerdict.UNCHECKED, detail=detail)

"""Replay: what of a trace is sent to a model: its first minutes, without the requests that its context cannot hold."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.errors import UsageError
from calibration.load.load import Load, lasting
from calibration.load.trace import Arrival, Trace, read_trace

REPLAY_S = 600.0
"""Of a longer trace so much is sent where nobody asked for another part: MLPerf's server scenario takes 600 s at least,
and each candidate takes as long as the trace lasts, two or three times."""
TOO_LONG_MOST = 0.05
"""Share of the requests that may be longer than a model's context. The longest requests take the longest, so with more
of them left out the p95 of the others would not be the trace's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A trace's file, and what of it is sent."""

    file: str
    """As the user named it."""
    whole: Trace
    asked_s: float | None = None
    """Of its first seconds, as the user asked for; None: REPLAY_S."""
    positions: int = 0
    """Of the model; 0: nobody knows how many it has."""
    trace: Trace
    """What is sent."""
    load: Load
    """Of what is sent."""
    too_long: int = 0
    """Requests that are left out since they are longer than `positions`."""

    @classmethod
    def read(cls, file: str | Path, seconds: float | None = None) -> "Replay":
        """The first seconds of a trace.

        Args:
            seconds: how many; None: REPLAY_S, or all where it is shorter.

        Raises:
            UsageError: see read_trace; or the part has fewer than two requests at different times.
        """
        if seconds is not None and not seconds > 0:
            raise UsageError(f"a part of a trace needs more than 0 s; found {seconds:g}")
        whole = read_trace(Path(file))
        trace = _first(whole, seconds or REPLAY_S)
        return cls(file=str(file), whole=whole, asked_s=seconds, trace=trace, load=trace.load)

    def within(self, positions: int) -> "Replay":
        """Without the requests that a model with so many positions cannot answer.

        Args:
            positions: 0 where the config names no limit.

        Raises:
            UsageError: more than TOO_LONG_MOST of them are too long.
        """
        requests = self.trace.arrivals
        too_long = sum(arrival.tokens > positions for arrival in requests) if positions else 0
        if not too_long:
            return replace(self, positions=positions)
        if too_long > TOO_LONG_MOST * len(requests):
            raise UsageError(
                f"{too_long:,} of {len(requests):,} requests of the trace {self.file} are longer than the"
                f" {positions:,} positions of the model: up to {self.load.context_tokens:,} tokens with the answer",
                "take a model with a longer context, or a trace of shorter requests",
            )
        trace = _fitting(self.trace, positions)
        return replace(self, positions=positions, trace=trace, load=trace.load, too_long=self.too_long + too_long)

    def longest_measured(self, loads: Collection[Load]) -> Load | None:
        """Of these loads the one that is the longest beginning of the trace; None where none is one."""
        by_digest = {load.trace: load for load in loads if load.trace}
        if not by_digest:
            return None
        whole = _fitting(self.whole, self.positions) if self.positions else self.whole
        return by_digest.get(whole.longest_beginning(by_digest.keys()))

    def sentences(self) -> tuple[str, ...]:
        """What of the file is not sent, each with the number of requests."""
        part = len(self.trace.arrivals) + self.too_long
        told = []
        if part < len(self.whole.arrivals):
            other = "" if self.asked_s else " (another part: --trace-seconds N)"
            told.append(
                f"of {self.file} the first {lasting(self.asked_s or REPLAY_S)} are replayed, {part:,} of"
                f" {len(self.whole.arrivals):,} requests in {lasting(self.whole.seconds)}{other}"
            )
        if self.too_long:
            told.append(
                f"{_left_out(self.too_long)} of {self.file}: longer than the {self.positions:,} positions of the model"
            )
        if self.whole.left_out:
            told.append(f"{_left_out(self.whole.left_out)} of {self.file}: without prompt or answer")
        return tuple(told)


def _first(whole: Trace, seconds: float) -> Trace:
    if seconds >= whole.seconds:
        return whole
    part = _part(whole, lambda arrival: arrival.at_s <= seconds)
    if part is None:
        raise UsageError(
            f"the first {lasting(seconds)} of the trace {whole.name} have fewer than two requests at different times",
            "take a longer part: --trace-seconds N",
        )
    return part


def _fitting(whole: Trace, positions: int) -> Trace:
    part = _part(whole, lambda arrival: arrival.tokens <= positions)
    if part is None:
        raise UsageError(
            f"fewer than two requests of the trace {whole.name} fit into the {positions:,} positions of the model",
            "take a model with a longer context, or a trace of shorter requests",
        )
    return part


def _part(whole: Trace, keeps: Callable[[Arrival], bool]) -> Trace | None:
    """Some of its requests, from the first of them on; None where they are not two at different times."""
    kept = [arrival for arrival in whole.arrivals if keeps(arrival)]
    if len(kept) < 2 or kept[0].at_s == kept[-1].at_s:
        return None
    first = kept[0].at_s
    return replace(whole, arrivals=tuple(replace(one, at_s=round(one.at_s - first, 5)) for one in kept))


def _left_out(count: int) -> str:
    return f"{count:,} request{'s are' if count != 1 else ' is'} left out"

"""What a server that adapts says: why it stays with an engine, what a switch needs, and what became of it."""

from selector.demand.traffic import Observed
from selector.screens.select import where_from
from selector.screens.serve import batching
from selector.screens.text import columns, figure, plural, seconds, size, within
from selector.serve.adapt.decide import NoRoom, NotMade, Ready, Stay, Switch, Unfit
from selector.serve.adapt.gain import Unsure
from selector.serve.adapt.pace import Pace
from selector.serve.keep.gate import HOLD_S
from selector.serve.keep.keeper import LOG_LINES


def looks(pace: Pace) -> str:
    """What a server that adapts does.

    >>> looks(Pace())
    'adapts    every 5:00 min it is looked, once 100 requests came, whether another candidate is surely better'
    """
    every, needed = seconds(pace.every_s), plural(pace.requests, "request")
    return f"adapts    every {every} it is looked, once {needed} came, whether another candidate is surely better"


def advice(stay: Stay, running: str) -> str:
    """What the user can do about it that the server stays with its engine; empty: nothing is to be said."""
    match stay:
        case Unsure(best=best, why=why, command=command):
            return (
                f"{best} may be better than {running} for what came, which is not sure: {why}."
                f" Measure it while this server rests: {command}"
            )
        case NotMade(best=best, command=command):
            return (
                f"{best} is better than {running} for what came, and the model is not converted for it."
                f" Start this server again so: {command}"
            )
        case NoRoom(best=best, why=why):
            return f"{best} is better than {running} for what came, and does not fit: {why}"
        case Unfit(best=best, why=why):
            return f"{best} is better than {running} for what came, and cannot take its place: {why}"
        case _:
            return ""


def begins(switch: Switch, came: Observed, running: str) -> list[str]:
    """What came, what is better and by how much, and what memory it needs; before anything of it is started."""
    at_once = f"{figure(came.at_once)} at once" if came.at_once > 1 else "one at a time"
    lengths = f"{came.prompt_median:,} prompt tokens and {came.output_median:,} new ones (medians)"
    rows = [
        ("came", f"{plural(came.requests, 'request')}: {lengths}, {at_once}"),
        ("better", _better(switch, running)),
        ("memory", _memory(switch.ready, running)),
    ]
    return columns(rows)


def done(ready: Ready, running: str, load_s: float, requests: int) -> list[str]:
    """From now on it answers, and how.

    Args:
        running: the candidate that answered before.
        requests: that this one still answers.
    """
    prepared = ready.prepared
    threads = f", {plural(prepared.subject.threads, 'thread')}" if prepared.subject.device == "cpu" else ""
    ends = f"; {running} ends after {plural(requests, 'request')}" if requests else ""
    title = prepared.backend.facts.title
    rows = [
        ("switched", f"loaded in {seconds(load_s)}: {prepared.spec.label} answers from now on{threads}{ends}"),
        ("requests", batching(ready.behind.batching(), title, prepared.room.slots)),
    ]
    return columns(rows)


def failed(label: str, message: str, running: str) -> str:
    """It did not come up.

    Args:
        message: why, and below it the end of what it printed.
    """
    reason, _, printed = message.partition("\n")
    last = "".join(f"\n  {line}" for line in printed.splitlines()[-LOG_LINES:])
    return (
        f"{label} did not come up: {reason}; {running} goes on. It is tried again when its versions, its conversion or"
        f" its measurements have changed{last}"
    )


def _better(switch: Switch, running: str) -> str:
    selection, better = switch.ready.prepared.selection, switch.better
    load, from_where = selection.use.label, where_from(selection)
    if better.times <= 1:
        return f"{better.best} meets {selection.demand.targets} for {load}, which {running} does not; {from_where}"
    times = f"{within(better.times, better.half)} times {selection.objective.better}"
    return f"{better.best} is {times} than {running} for {load}, {from_where}"


def _memory(ready: Ready, running: str) -> str:
    room = ready.prepared.room
    needed, free = size(room.needed_bytes), size(room.free_bytes)
    if ready.beside:
        return f"about {needed} of the {free} that are free beside {running}, which answers meanwhile"
    of_free = f" of the {free} that are free without {running}" if room.free_bytes else ""
    return (
        f"about {needed}{of_free}, which ends first when its requests have ended; new ones wait, each {HOLD_S:g} s at"
        " most"
    )

"""Reporters that remember what a calibration reported."""

from typing import TypeVar

from calibration.events import Event, LaunchEnded

Kind = TypeVar("Kind", bound=Event)


class Recorder:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event, /) -> None:
        self.events.append(event)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]


class Stopper(Recorder):
    """Ends a calibration as Ctrl-C does, once so many launches are over."""

    def __init__(self, launches: int) -> None:
        super().__init__()
        self._launches = launches

    def report(self, event: Event, /) -> None:
        super().report(event)
        if len(self.of(LaunchEnded)) == self._launches:
            raise KeyboardInterrupt

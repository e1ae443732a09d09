"""Memo: answers that are kept for as long as what was asked about is the same."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


class Memo:
    """Answers by key, the oldest forgotten. Used by any number of threads.

    Objects that cannot be hashed (hosts, models, open caches) stand in the key by their id and are kept beside the
    answer, so that no other object can have that id meanwhile.
    """

    def __init__(self, kept: int = 512) -> None:
        self._kept = kept
        self._answers: dict[Hashable, tuple[tuple[object, ...], object]] = {}
        self._lock = Lock()
        """Held while the dict changes, never while an answer is made."""

    def answer(self, key: Hashable, owners: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` answered for this key and these very objects; threads that ask at once may make it twice."""
        whole = (key, *map(id, owners))
        kept = self._answers.get(whole)
        if kept is None:
            made = owners, make()
            with self._lock:
                kept = self._answers.setdefault(whole, made)
                while len(self._answers) > self._kept:
                    del self._answers[next(iter(self._answers))]
        return kept[1]  # type: ignore[return-value]  # of one key all answers have one type

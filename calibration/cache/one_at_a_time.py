"""one_at_a_time: methods of an object that its threads enter one after the other."""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Lockable(Protocol):
    """An object with a lock of its own; a thread that holds it may enter again."""

    @property
    def lock(self) -> "RLock": ...


S = TypeVar("S", bound=Lockable)


def one_at_a_time(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Hold the object's lock while the method runs."""

    @wraps(method)
    def alone(self: S, /, *arguments: P.args, **named: P.kwargs) -> T:
        with self.lock:
            return method(self, *arguments, **named)

    return alone

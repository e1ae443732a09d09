"""What a candidate is served with, and the server that is started so; who starts it is handed in."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from calibration.load.load import Load
from calibration.load.sample import NoPoint, Point
from calibration.supervision.launch_spec import LaunchSpec


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Hold:
    """How much a server holds at once, and with how many threads its engine computes."""

    slots: int
    """Requests at once; the others wait."""
    context_tokens: int
    """Longest sequence, prompt and new tokens."""
    threads: int


class Server(Protocol):
    """A server that answers at `url` as OpenAI's API has it."""

    @property
    def url(self) -> str:
        """As in `http://127.0.0.1:41235`, without a slash at its end."""

    @property
    def key(self) -> str:
        """That it asks for; empty: none."""

    @property
    def served_name(self) -> str:
        """The name under which it is asked for the model."""

    @property
    def pid(self) -> int:
        """The process at the root of all that belongs to it."""

    @property
    def load_s(self) -> float:
        """From the start of its process to the moment at which it was ready."""

    def ended(self) -> str:
        """Why it is not there any more; empty while it runs."""


class NeverReady(Exception):
    """A server that did not become ready; caught by who launched it, and kept as what became of the launch."""

    def __init__(self, message: str, *, timed_out: bool = False, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.message, self.timed_out, self.out_of_memory = message, timed_out, out_of_memory


StartServer = Callable[[LaunchSpec, Hold, Path], AbstractContextManager[Server]]
"""Starts a candidate's server, waits until it is ready, and stops it on leaving; the path takes what it prints.

Raises:
    NeverReady: on entering.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request asks for: the greedy continuation of a prompt."""

    prompt: tuple[int, ...]
    new_tokens: int
    """At most; a token that ends answers may end it before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOnce:
    """Requests that run at once."""

    first: tuple[Wanted, ...]
    late: tuple[Wanted, ...] = ()
    """Sent when one of the first has its answer."""
    running: Wanted | None = None
    """Sent before all others. Nothing but its length ends it, and it is cut off when the others have their answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """Why there are no tokens that could be judged."""

    reason: str
    wrong: bool = False
    """An answer has another number of tokens than it was asked for: it is not right, whatever they are."""


AskAtOnce = Callable[[Server, AtOnce, float], Sequence[tuple[int, ...]] | Untold]
"""Asks a server, and gives the tokens of each answer: of `running`, where there is one, of `first`, and of `late`. Of
`running` it is what was told by then, which may be nothing. The number: seconds that all of it may take."""

MeasureLoad = Callable[[Server, Load, float | None], Point | NoPoint]
"""Puts a server under a load, for about so many seconds at most; None: as long as it takes. A load during which other
programs used the cores is measured once more, and void if they did so again."""

Value = Callable[[Point, int], float]
"""Of a point and the memory that its server held: what it reached of the objective; less is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What is served, how, and what it is put under."""

    loads: tuple[Load, ...]
    """What was asked for; never empty."""
    hold: Hold
    """With all threads."""
    start: StartServer
    measure: MeasureLoad
    ask: AskAtOnce
    """Asks what the check of the output is judged by, before a load."""
    value: Value
    fewer_threads: bool = True
    """The leader is tried with one thread fewer, too: where client, server and engine share the cores, a thread that
    spins on each of them may cost more than it brings."""
    levels: bool = True
    """At the end the leaders take one stream and twice as many as were asked for, too."""
    full: bool = False
    """All candidates take all rounds; else who is worse beyond doubt is out, and it ends when the best is known."""

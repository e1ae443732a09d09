"""An engine that does what a script says, a step at a time, and remembers who used it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from calibration.engine.streams import Ability, Delta, Finish, Request, TokenScores
from selector.serve.upstream import Unavailable

Script = Callable[[Request], Iterable[Delta | Exception]]


def saying(tokens: Sequence[int], *, step: int = 1, end: int | None = None) -> Script:
    """Answers with these tokens, some a step; `end` comes after them and ends the answer, where it may."""

    def script(request: Request) -> Iterable[Delta]:
        wanted = list(tokens[: request.max_tokens])
        stops = end is not None and end in request.end_tokens and len(wanted) < request.max_tokens
        if stops and end is not None:
            wanted.append(end)
        for begin in range(0, len(wanted), step):
            new = tuple(wanted[begin : begin + step])
            is_last = begin + step >= len(wanted)
            yield Delta(
                id=request.id,
                tokens=new,
                scores=tuple(scores_of(token, request.logprobs) for token in new) if request.logprobs else (),
                finish=(Finish.STOP if stops else Finish.LENGTH) if is_last else None,
            )

    return script


def counting(request: Request) -> Iterable[Delta]:
    """Answers with as many tokens as were asked for: the number of the prompt's first token, and those that follow."""
    for number in range(request.max_tokens):
        token = (request.prompt[0] + number) % 256
        yield Delta(id=request.id, tokens=(token,), finish=Finish.LENGTH if number + 1 == request.max_tokens else None)


def scores_of(token: int, likeliest: int) -> TokenScores:
    """-0.25 for the chosen token; its successors are less likely by 1 each."""
    return TokenScores(chosen=-0.25, likeliest=tuple((token + n, -0.25 - n) for n in range(likeliest)))


class Scripted:
    """An `Engine` with places for some requests; the others wait.

    Args:
        step_s: how long each step takes.
    """

    def __init__(
        self,
        script: Script,
        *,
        abilities: Iterable[Ability] = tuple(Ability),
        slots: int = 64,
        step_s: float = 0.0,
    ) -> None:
        self.script, self.step_s = script, step_s
        self.abilities = frozenset(abilities)
        self.ready = True
        self.requests: list[Request] = []
        self.running: dict[str, Request] = {}
        self.most_running = 0
        self.steps = 0
        self.cancelled: list[Request] = []
        self._places = asyncio.Semaphore(slots)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if not self.ready:
            raise Unavailable("the engine is loading", retry_after_s=2.5)
        self.requests.append(request)
        over = False
        async with self._places:
            self.running[request.id] = request
            self.most_running = max(self.most_running, len(self.running))
            try:
                for delta in self.script(request):
                    await asyncio.sleep(self.step_s)
                    if isinstance(delta, Exception):
                        over = True
                        raise delta
                    self.steps += 1
                    over = delta.finish is not None
                    yield delta
            finally:
                del self.running[request.id]
                if not over:
                    self.cancelled.append(request)

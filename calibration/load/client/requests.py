"""The requests of a load as a server takes them: prompts of token ids, or of words where it refuses those."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import replace

from calibration.load.client.ask import Address, Answer, ask
from calibration.load.client.draws import Planned, Words, prompt_ids, prompt_text
from calibration.load.client.load_spec import LoadSpec, body

WARM_UP_TOKENS = 8
"""New tokens of a warm-up request: enough for the first steps of decoding."""


class Unmeasurable(Exception):
    """The load cannot be measured, and why."""


class Requests:
    """What is sent to one server.

    Args:
        now: the seconds that answers are told in.
    """

    def __init__(self, spec: LoadSpec, now: Callable[[], float]) -> None:
        self._spec, self._now = spec, now
        self._address = Address.of(spec.url, spec.path, spec.key)
        self._words: Words | None = None
        """None: prompts are token ids."""

    @property
    def of_words(self) -> bool:
        """Whether prompts are words."""
        return self._words is not None

    async def reach(self) -> None:
        """Find the address of the server, so that no request has to look for it."""
        if not self._address.tls:  # a certificate is for the name
            self._address = replace(self._address, host=await _reachable(self._address.host, self._address.port))

    async def warm_up(self) -> None:
        """A request of each length: the least, the mean and the most; one after another.

        Where the server refuses token ids, prompts are words from then on.

        Raises:
            Unmeasurable: a request failed.
        """
        load = self._spec.load
        lengths = sorted({load.prompt.low, round(load.prompt.mean), load.prompt.high})
        told: list[tuple[int, int]] = []
        for place, length in enumerate(lengths):
            # The longest prompt of a trace may have a short answer, and the server no room for a longer one.
            new_tokens = min(WARM_UP_TOKENS, load.answers.high, load.context_tokens - length)
            planned = Planned(number=-1 - place, prompt_tokens=length, output_tokens=new_tokens)
            answer = await self._asked_once(planned)
            if place == 0 and answer.status in (400, 415, 422) and self._words is None:
                refusal, self._words = answer.error, Words()
                answer = await self._asked_once(planned)
                if answer.error:
                    raise Unmeasurable(refusal)
            if answer.error:
                raise Unmeasurable(answer.error)
            told.append((length, answer.asked().prompt_tokens))
        if self._words is not None:
            self._words.learn(told)

    def body(self, planned: Planned) -> bytes:
        """The body of a request."""
        if self._words is None:
            prompt: str | list[int] = prompt_ids(
                self._spec.prompt_seed, planned.number, planned.prompt_tokens, self._spec.vocab_size
            )
        else:
            prompt = prompt_text(self._spec.prompt_seed, planned.number, self._words.of(planned.prompt_tokens))
        return json.dumps(body(self._spec, prompt, planned.output_tokens)).encode()

    async def send(self, request: bytes, answer: Answer) -> None:
        """Send the body of a request; what comes of it is told to `answer`."""
        await ask(self._address, request, answer, self._now)

    async def _asked_once(self, planned: Planned) -> Answer:
        answer = answer_to(planned)
        try:
            async with asyncio.timeout(self._spec.budget_s + self._spec.patience_s):
                await self.send(self.body(planned), answer)
        except TimeoutError:
            answer.error = f"no answer within {self._spec.budget_s + self._spec.patience_s:g} s"
        return answer


def answer_to(planned: Planned) -> Answer:
    """An answer of which nothing has come yet."""
    return Answer(
        number=planned.number,
        prompt_tokens=planned.prompt_tokens,
        output_tokens=planned.output_tokens,
        due_s=planned.due_s,
    )


async def _reachable(host: str, port: int) -> str:
    """The first address of a host that takes a connection, so that no request has to look for it; else the host."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # what is wrong is told when the host is asked
        for *_, at in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(str(at[0]), port)
                writer.close()
                return str(at[0])
    return host

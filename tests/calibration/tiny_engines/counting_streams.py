"""A real, tiny engine that counts for several requests at once, and misbehaves where its options say so."""

import os
import sys
import time
from collections.abc import Sequence

from calibration.backend import Backend, Engine, Facts, Generation, Job, Variant
from calibration.engine.streams import Ability, Delta, Finish, Request, Streams, TokenScores

UNLUCKY = 13
"""A prompt that begins with it is refused, where the option `refuses` says so."""


class CountingStreams(Streams):
    """Continues every prompt by the next number, a token a step for all that have a place."""

    abilities = frozenset({Ability.SEED, Ability.TEMPERATURE, Ability.LOGPROBS})

    def __init__(self, job: Job) -> None:
        self.options, self.places, self.vocab_size = job.variant.options, job.max_batch, job.vocab_size
        self.asked: dict[str, Request] = {}
        self.told: dict[str, int] = {}

    @property
    def running(self) -> int:
        return len(self.asked)

    def add(self, request: Request) -> None:
        if self.options.get("refuses") and request.prompt[0] == UNLUCKY:
            raise ValueError("needs luck; found 13")
        self.asked[request.id] = request
        self.told[request.id] = 0

    def step(self) -> Sequence[Delta]:
        time.sleep(float(self.options.get("step_s", 0.001)))
        return [self.next(request) for request in list(self.asked.values())[: self.places]]

    def next(self, request: Request) -> Delta:
        self.told[request.id] += 1
        token = (request.prompt[-1] + self.told[request.id]) % self.vocab_size
        match self.options.get("at_token", {}).get(str(token)):
            case "raise":
                raise RuntimeError("kernel exploded")
            case "memory error":
                raise MemoryError("no room for the KV cache")
            case "exit":
                os._exit(3)
            case "grow":
                self.hoard = os.urandom(1 << 20) * 320
            case "noise":
                os.write(int(sys.argv[2]), b"\x80 not json\n")
            case "garbage":
                return Delta(id=object())  # type: ignore[arg-type]
            case "fail":
                del self.asked[request.id]
                return Delta(id=request.id, finish=Finish.ERROR, message="this one went wrong")
        finish = None
        if token in request.end_tokens:
            finish = Finish.STOP
        elif self.told[request.id] == request.max_tokens:
            finish = Finish.LENGTH
        if finish is not None:
            del self.asked[request.id]
        scores = (TokenScores(chosen=-0.5, likeliest=((token, -0.5),)),) if request.logprobs else ()
        return Delta(id=request.id, tokens=(token,), scores=scores, finish=finish)

    def cancel(self, request_id: str) -> None:
        self.asked.pop(request_id, None)

    def close(self) -> None:
        print("closed", flush=True)


class CountingEngine(Engine):
    """The same, a whole answer at a time."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        rows = tuple(
            tuple((prompt[-1] + step) % self.vocab_size for step in range(1, new_tokens + 1)) for prompt in prompts
        )
        return Generation(tokens=rows, arrivals=tuple((0.0,) * new_tokens for _ in rows))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> None:
        return None


class Counting(Backend):
    name = "counting"
    facts = Facts(
        title="Counting",
        url="",
        package="pytest",
        requires=("pytest",),
        install="pip install pytest",
        devices=frozenset({"cpu"}),
    )
    variants = (Variant(name="plain"),)

    def load(self, job: Job) -> Engine:
        return CountingEngine(job.vocab_size)

    def streams(self, job: Job) -> Streams:
        if job.variant.options.get("load") == "refuse":
            raise ValueError("cannot load this architecture")
        return super().streams(job) if job.variant.options.get("whole") else CountingStreams(job)

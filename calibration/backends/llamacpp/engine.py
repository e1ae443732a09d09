"""A running llama-server, asked over HTTP: answers with their times, and scores of the next token."""

import http.client
import json
import time
from array import array
from collections.abc import Sequence
from typing import Any

from calibration.backend import Engine, Generation, Rows

_MOST_SCORED = 1 << 12
"""Scores come as JSON, 7 microseconds of CPU time each: of a larger vocabulary those of the best tokens are enough."""


class LlamaServer(Engine):
    """A running llama-server.

    Its stream holds back tokens whose text ends within a character and tells neither their ids nor their times, so
    answers are asked for whole and the server's own clock tells when the first token was there.

    Args:
        server: xllamacpp.Server.
        key: what it answers to.
        vocab_size: the model's.
    """

    scores_its_steps = True

    def __init__(self, server: Any, key: str, vocab_size: int) -> None:
        self._server = server
        self._address = server.listening_address.removeprefix("http://")
        self._key = key
        self._vocab_size = vocab_size
        self._harmless: int | None = None
        # A server that is closed before its loop has begun waits for ever: the first answer shows that it has.
        self._ask({"prompt": [0], "n_predict": 1, "cache_prompt": False})

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """One request with all prompts: each gets a slot, and all start together.

        Should a path meet a token that ends sequences, the batch is timed anew with those forbidden, and the path goes
        on behind it alone.
        """
        answers, arrivals = self._timed(prompts, new_tokens, ignore_eos=False)
        paths = [list(answer["tokens"]) for answer in answers]
        if any(len(path) < new_tokens for path in paths):
            _, arrivals = self._timed(prompts, new_tokens, ignore_eos=True)
            for prompt, path in zip(prompts, paths, strict=True):
                self._go_on(prompt, path, new_tokens)
        return Generation(tokens=tuple(map(tuple, paths)), arrivals=arrivals)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        """Log-probabilities; each token is decoded on the cache of those before it."""
        return [
            self._next_scores([*prompt, *continuation[:given]], cached=given > 0)
            for given in range(len(continuation) + 1)
        ]

    def close(self) -> None:
        self._server = None

    def _go_on(self, prompt: Sequence[int], path: list[int], new_tokens: int) -> None:
        """Add to a path that met an end until it has `new_tokens`."""
        while len(path) < new_tokens:
            [more], _ = self._timed([[*prompt, *path]], new_tokens - len(path), ignore_eos=False)
            if not more["tokens"]:
                return
            path.extend(more["tokens"])

    def _timed(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, *, ignore_eos: bool
    ) -> tuple[list[Any], tuple[tuple[float, ...], ...]]:
        """The answers in the order of the prompts, and arrivals [batch, new_tokens].

        All slots start together: the one that takes longest ends when the answer comes, and by the server's figures the
        others' first and last tokens came so much before. Those between are spread evenly.
        """
        began = time.perf_counter()
        answers = self._ask(
            {
                "prompt": [list(prompt) for prompt in prompts],
                "n_predict": new_tokens,
                "ignore_eos": ignore_eos,
                "cache_prompt": False,
                "return_tokens": True,
            }
        )
        end = time.perf_counter() - began
        answers = sorted(answers if isinstance(answers, list) else [answers], key=lambda a: int(a["index"]))
        decode_s = [answer["timings"]["predicted_ms"] / 1e3 for answer in answers]
        busy_s = [
            answer["timings"]["prompt_ms"] / 1e3 + decode for answer, decode in zip(answers, decode_s, strict=True)
        ]
        arrivals = []
        for decode, busy in zip(decode_s, busy_s, strict=True):
            last = end - (max(busy_s) - busy)
            step = decode / max(1, new_tokens - 1)
            arrivals.append(tuple(last - step * left for left in reversed(range(new_tokens))))
        return answers, tuple(arrivals)

    def _next_scores(self, tokens: Sequence[int], *, cached: bool) -> "array[float]":
        """Log-probabilities [vocab] of the token after `tokens`, before any sampling; -inf beyond the best ones."""
        tried = range(self._vocab_size) if self._harmless is None else (self._harmless,)
        for forced in tried:
            # A token whose text is no whole character comes without probabilities: one that has some is forced.
            answer = self._ask(
                {
                    "prompt": list(tokens),
                    "n_predict": 1,
                    "n_probs": min(self._vocab_size, _MOST_SCORED),
                    "post_sampling_probs": False,
                    "logit_bias": [[forced, 1e4]],
                    "id_slot": 0,
                    "cache_prompt": cached,
                }
            )
            if probabilities := answer.get("completion_probabilities"):
                self._harmless = forced
                row = array("f", [float("-inf")]) * self._vocab_size
                for scored in probabilities[0]["top_logprobs"]:
                    row[scored["id"]] = scored["logprob"]
                return row
        raise RuntimeError("llama-server gave no probabilities for any token")

    def _ask(self, request: dict[str, Any]) -> Any:
        """POST /completion.

        Raises:
            RuntimeError: the server's own reason.
        """
        body = json.dumps({"temperature": 0.0, "top_k": 1, "samplers": ["top_k"], **request})
        connection = http.client.HTTPConnection(self._address)
        try:
            connection.request(
                "POST",
                "/completion",
                body.encode(),
                {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
            )
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RuntimeError(f"llama-server: {answer['error'].get('message', answer['error'])}")
        return answer

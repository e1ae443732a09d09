"""Prefill, then one forward a token: the plainest loop around a model of transformers."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from calibration.backend import Engine, Generation, Rows


class DecodeLoop(Engine):
    """Prefill, then one forward a token.

    Args:
        model: a causal language model of transformers (any class with a cache).
        device: torch device.
        compiled: keep the cache static and run the decode steps through torch.compile, as transformers' own generate.
        max_tokens: capacity of a static cache.
    """

    scores_its_steps = True

    def __init__(self, model: Any, device: str, *, compiled: bool, max_tokens: int) -> None:
        import inspect

        import torch

        accepted = inspect.signature(model.forward).parameters
        self._cache = next((name for name in ("past_key_values", "cache_params") if name in accepted), "")
        if not self._cache:
            raise ValueError(
                f"{type(model).__name__} has no cache: its forward takes neither past_key_values nor cache_params"
            )
        self._last_only: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._model = model
        self._device = device
        # Graphs that replay on inference tensors are not supported everywhere; transformers' generate uses no_grad too.
        self._without_grad: Any = torch.no_grad if compiled else torch.inference_mode
        self._static: dict[int, Any] = {}
        self._max_tokens = max_tokens
        self._step = model
        self._compiled = compiled
        if compiled:
            mode = "default" if device == "cpu" else "reduce-overhead"
            self._step = torch.compile(model.__call__, mode=mode, dynamic=False)

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        import torch

        began = time.perf_counter()
        steps: list[list[int]] = []
        times: list[float] = []
        with self._without_grad():
            given: Any = torch.tensor(prompts, device=self._device)
            cache = self._fresh_cache(len(prompts))
            while len(steps) < new_tokens:
                past = len(prompts[0]) + len(steps) - 1 if steps else 0
                logits, cache = self._forward(given, cache, past)
                given = logits.argmax(dim=-1, keepdim=True)
                # Reading the tokens waits for the device; a server must do the same before it can send them.
                steps.append(given[:, 0].tolist())
                times.append(time.perf_counter() - began)
        return Generation(tokens=tuple(zip(*steps, strict=True)), arrivals=(tuple(times),) * len(prompts))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        return list(self.rows(prompt, continuation))

    def score_greedy(self, prompt: Sequence[int], new_tokens: int) -> tuple[Sequence[int], Rows]:
        path: list[int] = []
        rows: list[Any] = []
        # What is chosen from a row is what the next one is asked for: `path` grows while it is read.
        for row in islice(self.rows(prompt, path), new_tokens):
            rows.append(row)
            path.append(int(row.argmax()))
        return path, rows

    def rows(self, prompt: Sequence[int], continuation: Iterable[int]) -> Iterator[Any]:
        """Scores [vocab] after the prompt, and after each token of the continuation, which may grow meanwhile."""
        import torch

        cache, past = self._fresh_cache(1), 0
        for given in chain([[*prompt]], ([token] for token in continuation)):
            with self._without_grad():
                logits, cache = self._forward(torch.tensor([given], device=self._device), cache, past)
                row = logits[0].float().cpu()
            yield row
            past += len(given)

    def _forward(self, given: Any, cache: Any, past: int) -> tuple[Any, Any]:
        """Logits of the next token [batch, vocab] and the cache, which held `past` tokens."""
        more: dict[str, Any] = dict(self._last_only)
        call = self._model
        if self._compiled:
            import torch

            # A model that counts the tokens itself counts with an int, and is compiled again for every step.
            more["position_ids"] = torch.arange(past, past + given.shape[1], device=self._device)[None]
            call = self._step if past else self._model
        out = call(input_ids=given, use_cache=True, **{self._cache: cache}, **more)
        if self._cache not in out and cache is None:
            # RecurrentGemma keeps what it is given, and does not return what it made itself (transformers 5.23.0).
            from transformers import DynamicCache

            cache = DynamicCache(config=self._model.config)
            out = call(input_ids=given, use_cache=True, **{self._cache: cache}, **more)
        return out.logits[:, -1], out.get(self._cache, cache)

    def _fresh_cache(self, batch: int) -> Any:
        """None lets the model make its own; compiled steps need one of fixed size at a fixed address."""
        if not self._compiled:
            return None
        if batch not in self._static:
            from transformers import StaticCache

            self._static[batch] = StaticCache(config=self._model.config, max_cache_len=self._max_tokens)
        self._static[batch].reset()
        return self._static[batch]

"""A loaded CTranslate2 model: whole batches are generated and scored; prompts go in as token strings, ids come out."""

import time
from collections.abc import Sequence
from typing import Any

from calibration.backend import Engine, Generation, Rows


class GeneratorEngine(Engine):
    """ctranslate2.Generator.

    Args:
        generator: the loaded model.
        words: the name of each token.
    """

    scores_long_prompts = False

    def __init__(self, generator: Any, words: list[str]) -> None:
        self.generator = generator
        self.words = words

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """One batch; the engine calls back for every token as it is chosen."""
        began = time.perf_counter()
        arrivals: list[list[float]] = [[] for _ in prompts]

        def chosen(step: Any) -> bool:
            arrivals[step.batch_id].append(time.perf_counter() - began)
            return False  # True would end this sequence

        results = self.generator.generate_batch(
            [[self.words[token] for token in prompt] for prompt in prompts],
            min_length=new_tokens,
            max_length=new_tokens,
            end_token=[],
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=chosen,
        )
        return Generation(
            tokens=tuple(tuple(result.sequences_ids[0]) for result in results), arrivals=tuple(map(tuple, arrivals))
        )

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        """Logits of the whole sequence in one call: the engine scores no step of its decoding."""
        logits = self.generator.forward_batch([[*prompt, *continuation]])
        return list(as_array(logits)[0, len(prompt) - 1 :])

    def close(self) -> None:
        self.generator.unload_model()


def as_array(storage: Any) -> Any:
    """A ctranslate2.StorageView as numpy's float32, wherever it is and whatever it holds."""
    import ctranslate2
    import numpy as np

    if str(getattr(storage, "device", "cpu")) != "cpu":
        storage = storage.to_device(ctranslate2.Device.cpu)
    if str(storage.dtype).rpartition(".")[2] != "float32":
        storage = storage.to(ctranslate2.DataType.float32)
    return np.array(storage)

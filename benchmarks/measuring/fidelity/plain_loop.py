"""Times transformers by our worker's verbs and by a plain loop, in turn, in one process; prints a JSON object.

`python -m benchmarks.measuring.fidelity.plain_loop MODEL_FOLDER THREADS PAIRS`
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from calibration.backend import Job
from calibration.backends.transformers import TransformersBackend
from calibration.worker.main import _Server
from calibration.worker.opening import Opening

CELLS = ((64, 16, 1), (128, 16, 4))
"""Prompt tokens, new tokens, batch."""
VOCABULARY = 32_000

Figures = Callable[[int, int, int], tuple[float, float]]
"""TTFT and TPOT, seconds, of a cell: prompt tokens, new tokens, batch."""


def main() -> None:
    folder, threads, pairs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    server = worker(folder, threads)
    model = plain_model(folder, threads)
    print(json.dumps([compare(server, partial(by_hand, model), cell, pairs) for cell in CELLS]))


def worker(folder: Path, threads: int) -> _Server:
    """The worker's side of a launch of transformers:sdpa, loaded."""
    job = Job(
        model_dir=folder,
        variant=TransformersBackend().variant("sdpa"),
        artifact_dir=None,
        dtype="float32",
        vocab_size=VOCABULARY,
        device="cpu",
        threads=threads,
        max_context_tokens=512,
        max_batch=4,
    )
    server = _Server()
    server.do_open(**Opening(backend="transformers", job=job).request())
    server.do_load()
    return server


def plain_model(folder: Path, threads: int, dtype: str = "float32") -> Any:
    """What a user would write."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()


def by_hand(model: Any, prompt_tokens: int, new_tokens: int, batch: int) -> tuple[float, float]:
    """TTFT and TPOT of greedy decoding, written down plainly."""
    import torch

    tokens = torch.randint(3, min(VOCABULARY, model.config.vocab_size), (batch, prompt_tokens))
    with torch.inference_mode():
        began = time.perf_counter()
        out = model(input_ids=tokens, use_cache=True, logits_to_keep=1)
        tokens = out.logits[:, -1].argmax(-1, keepdim=True)
        first = time.perf_counter()
        for _ in range(new_tokens - 1):
            out = model(input_ids=tokens, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
            tokens = out.logits[:, -1].argmax(-1, keepdim=True)
        end = time.perf_counter()
    return first - began, (end - first) / (new_tokens - 1)


def compare(
    server: _Server, other: Figures, cell: tuple[int, int, int], pairs: int, *, same_call: bool = False
) -> dict[str, Any]:
    """Ratios of ours to the others', by neighbours in time; the order alternates: ours, other, other, ours ...

    Args:
        same_call: `other` does nothing but tell the engine's own figures of the call that was just timed.
    """
    prompt_tokens, new_tokens, batch = cell

    def ours(number: int) -> tuple[float, float]:
        sample = server.do_sample(
            seed=f"{cell} {number}", prompt_tokens=prompt_tokens, output_tokens=new_tokens, batch=batch
        )
        return sample["ttft_s"], sample["tpot_s"]

    for _ in range(2):
        ours(-1)
        other(*cell)
    ratios: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2 and not same_call:
            plain.append(other(*cell))
            mine = ours(number)
        else:
            mine = ours(number)
            plain.append(other(*cell))
        ratios.append((mine[0] / plain[-1][0], mine[1] / plain[-1][1]))
    row: dict[str, Any] = {"cell": f"pp{prompt_tokens}:tg{new_tokens}:b{batch}", "pairs": pairs}
    for place, name in enumerate(("ttft", "tpot")):
        values = [pair[place] for pair in ratios]
        row[f"plain_{name}_s"] = median(pair[place] for pair in plain)
        row[f"{name}_ratio"], row[f"{name}_ratio_spread"] = median(values), _spread(values)
    return row


def _spread(ratios: Sequence[float]) -> float:
    """Half the width of an interval for the median of many pairs, from the median absolute deviation.

    1.4826 * MAD estimates sigma for normal noise (Hampel 1974); the median of n has a standard error of
    1.2533 sigma / sqrt(n).
    """
    middle = median(ratios)
    sigma = 1.4826 * median(abs(ratio - middle) for ratio in ratios)
    return 1.96 * 1.2533 * sigma / math.sqrt(len(ratios))


if __name__ == "__main__":
    main()

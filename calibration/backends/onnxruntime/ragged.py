"""A graph of ONNX Runtime GenAI run by ONNX Runtime itself, on sequences that have each its own length.

GenAI's generators hold one batch whose sequences grow in step. Its graphs do not ask for that: GroupQueryAttention
takes a length for each sequence (the sum of its attention mask) and writes keys and values in place.
"""

import json
import math
import mmap
from collections.abc import Sequence
from typing import Any

from calibration.backend import Job

_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids"})
"""Beside the caches."""
_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_TWO_ROTATIONS = frozenset({"phi3", "phimoe", "phi3small"})
"""Types whose rotation may become another one within a long sequence (src/generators.cpp of onnxruntime-genai,
GenerateNextToken)."""


class RaggedGraph:
    """Caches of `job.max_batch` sequences, a row for each, and the session that reads and writes them.

    What no sequence has reached takes no memory.
    """

    def __init__(self, job: Job) -> None:
        import numpy as np
        import onnxruntime

        assert job.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
        written = json.loads((job.artifact_dir / "genai_config.json").read_text(encoding="utf-8"))["model"]
        decoder = written["decoder"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        self._session = onnxruntime.InferenceSession(
            str(job.artifact_dir / decoder["filename"]), options, providers=["CPUExecutionProvider"]
        )
        inputs = {each.name: each for each in self._session.get_inputs()}
        self._takes_positions = "position_ids" in inputs
        shape = (job.max_batch, decoder["num_key_value_heads"], job.max_context_tokens, decoder["head_size"])
        self._caches: dict[tuple[str, str], Any] = {}
        """By the names under which a cache goes in and comes out: [row, head, place, number]."""
        for layer in range(decoder["num_hidden_layers"]):
            for kind in ("key", "value"):
                past = decoder["inputs"][f"past_{kind}_names"] % layer
                present = decoder["outputs"][f"present_{kind}_names"] % layer
                self._caches[past, present] = _zeros(shape, _FLOATS[inputs[past].type])
        self._scores = np.empty((job.max_batch, 1, written["vocab_size"]), np.float32)
        self._bindings: dict[tuple[int, int], Any] = {}

    def read(self, row: int, past: int, tokens: Sequence[int]) -> Any:
        """Append tokens to the sequence of a row.

        Args:
            past: length of the sequence before.

        Returns:
            [vocab] scores of the token after the last; a view, which the next call overwrites.
        """
        import numpy as np

        places = np.arange(past, past + len(tokens), dtype=np.int64)[None]
        return self._run(row, np.array([tokens], np.int64), np.ones((1, past + len(tokens)), np.int64), places)[0]

    def append(self, tokens: Sequence[int], lengths: Sequence[int]) -> Any:
        """Append a token to each of the first rows, of which the sequences have these lengths.

        Returns:
            [row, vocab] scores of the token after it; a view, which the next call overwrites.
        """
        import numpy as np

        past = np.array(lengths, np.int64)[:, None]
        mask = (np.arange(past.max() + 1) <= past).astype(np.int64)
        return self._run(0, np.array(tokens, np.int64)[:, None], mask, past)

    def move(self, row: int, to: int, length: int) -> None:
        """Put a row's sequence, of this length, into another row."""
        for cache in self._caches.values():
            cache[to, :, :length] = cache[row, :, :length]

    def _run(self, first: int, tokens: Any, mask: Any, places: Any) -> Any:
        """[row, vocab] scores of the rows from `first` on, one for each row of `tokens`."""
        binding = self._binding(first, len(tokens))
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("attention_mask", mask)
        if self._takes_positions:
            binding.bind_cpu_input("position_ids", places)
        self._session.run_with_iobinding(binding)
        return self._scores[: len(tokens), 0]

    def _binding(self, first: int, count: int) -> Any:
        """Where the caches of some rows and the scores stand: bound once, since that takes a moment for each layer."""
        if (first, count) not in self._bindings:
            binding = self._session.io_binding()
            for (past, present), cache in self._caches.items():
                rows = cache[first : first + count]
                where = ("cpu", 0, rows.dtype, rows.shape, rows.ctypes.data)
                binding.bind_input(past, *where)
                binding.bind_output(present, *where)
            scores = self._scores[:count]
            binding.bind_output("logits", "cpu", 0, scores.dtype, scores.shape, scores.ctypes.data)
            self._bindings[first, count] = binding
        return self._bindings[first, count]


def _zeros(shape: tuple[int, ...], dtype: str) -> Any:
    """An array of zeros in small pages.

    numpy asks for huge ones. Each head of each row begins in pages of its own, so that a short sequence would take as
    much memory as the longest: eight of 64 tokens took 2.9 GB where 8192 tokens are allowed (smollm2-135m), now 43 MB.
    """
    import numpy as np

    memory = mmap.mmap(-1, math.prod(shape) * np.dtype(dtype).itemsize)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def can_be_ragged(job: Job) -> bool:
    """Whether a graph's caches are written in place, are as long as the sequence, and hold all that it remembers.

    Those of a sliding window are not, nor those of attention that is not grouped; some have convolutions beside. A
    rotation that changes within a long sequence needs what GenAI does then.
    """
    assert job.artifact_dir is not None  # see RaggedGraph
    written = json.loads((job.artifact_dir / "genai_config.json").read_text(encoding="utf-8"))
    model, decoder = written["model"], written["model"]["decoder"]
    return bool(
        written["search"]["past_present_share_buffer"]
        and set(decoder["inputs"]) <= _INPUTS | {"past_key_names", "past_value_names"}
        and "sliding_window" not in decoder
        and model["type"] not in _TWO_ROTATIONS
    )

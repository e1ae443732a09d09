"""Small models with random weights, in the published style of config.json and in that of transformers 5."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Engine, Job, Rows
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.worker.prompts import prompts
from tests.engines.tiny_configs import CONFIGS, VOCAB

PROMPT_TOKENS = 24
NEW_TOKENS = 8


def write(name: str, style: str, root: Path) -> Path:
    """The folder of a checkpoint, made once for `root`; `style` is `published` or `transformers-5`."""
    made = root / f"{name}-{style}"
    if not made.exists():
        source = root / f"{name}-{style}-config"
        source.mkdir()
        (source / "config.json").write_text(json.dumps(CONFIGS[name]))
        if style == "transformers-5":
            from transformers import AutoConfig

            AutoConfig.from_pretrained(source).save_pretrained(source)
        write_random_checkpoint(source, made)
    return made


def job(folder: Path, backend: Backend, variant: str, artifact: Path | None = None) -> Job:
    config = json.loads((folder / "config.json").read_text())
    return Job(
        model_dir=folder,
        variant=backend.variant(variant),
        artifact_dir=artifact,
        dtype=config.get("torch_dtype") or config.get("dtype") or "float32",
        vocab_size=VOCAB,
        device="cpu",
        # With AMX, OpenVINO 2026.4 divides by zero in bfloat16 on one thread.
        threads=2 if backend.name == "openvino" else 1,
        max_context_tokens=128,
        max_batch=3,
    )


def load(backend: Backend, variant: str, folder: Path) -> Engine:
    """Convert, where the variant needs it, beside the checkpoint; then load."""
    asked = job(folder, backend, variant)
    if asked.variant.prepares:
        artifact = folder.parent / f"{folder.name}-{backend.name}-{variant}"
        asked = job(folder, backend, variant, artifact)
        if not artifact.exists():
            artifact.mkdir()
            backend.prepare(asked, artifact, print)
    return backend.load(asked)


def asked_prompts(length: int = PROMPT_TOKENS) -> list[list[int]]:
    return prompts("tiny", VOCAB, length, 3)


def rows(scores: Rows | None) -> Any:
    """[step, vocab] as a numpy array."""
    import numpy as np

    assert scores is not None
    return np.stack([np.asarray(row) for row in scores])


def unlike(engine: Engine, reference: Engine, *, length: int = PROMPT_TOKENS, within: float = 1e-4) -> list[str]:
    """What an engine does otherwise than the reference, or than it has promised; nothing for a right one."""
    import numpy as np

    asked = asked_prompts(length)
    expected = reference.generate(asked, NEW_TOKENS).tokens
    made = engine.generate(asked, NEW_TOKENS)
    found = []
    if made.tokens != expected:
        found.append("greedy tokens")
    if [engine.generate([prompt], NEW_TOKENS).tokens[0] for prompt in asked] != list(made.tokens):
        found.append("a batch and its prompts alone")
    if [len(row) for row in made.tokens] != [NEW_TOKENS] * 3 or [len(row) for row in made.arrivals] != [NEW_TOKENS] * 3:
        found.append("number of tokens")
    if any(not _rises(row) for row in made.arrivals):
        found.append("arrivals")
    continuation = expected[0][:-1]
    ours, theirs = rows(engine.score(asked[0], continuation)), rows(reference.score(asked[0], continuation))
    if ours.shape != theirs.shape or not np.abs(ours - theirs).max() < within:
        found.append("scores")
    return found


def _rises(times: Sequence[float]) -> bool:
    return times[0] > 0 and list(times) == sorted(times)

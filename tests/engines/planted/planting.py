"""Errors to plant: in the checkpoint that an engine is given while the reference has the true one, or around it."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Engine, Generation, Rows
from calibration.check.agreement import (
    GROUPS,
    NEW_TOKENS,
    PROMPT_TOKENS,
    TOLD_BY_SCORES,
    Answers,
    fixed_prompts,
    rounding_of,
)
from calibration.checkpoints.cut_config import cut_config
from calibration.registry import find
from calibration.rung import Rung
from calibration.worker.main import _Server
from tests.engines.tiny_configs import VOCAB
from tests.engines.tiny_models import job

MAX_CONTEXT = 2 * PROMPT_TOKENS[-1] + 2 * NEW_TOKENS
"""A cache that is not cleared holds two prompts."""


def ask(engine: Engine, rows_file: Path, along: Answers | None = None) -> Answers:
    """The engine's answers to the fixed prompts, as a worker gives them."""
    server = _Server()
    server.engine = engine
    asked = fixed_prompts(VOCAB, MAX_CONTEXT)
    if along is None:
        told = server.do_refer(prompts=asked, new_tokens=NEW_TOKENS, rows_file=str(rows_file))
        return Answers.of_reference(told["paths"], rows_file, told["rows"])
    told = server.do_answer(
        prompts=asked,
        groups=[list(group) for group in GROUPS],
        new_tokens=NEW_TOKENS,
        continuations=[list(along.path(i)[:-1]) for i in range(len(asked))],
        rows_file=str(rows_file),
        scored_prompts=range(TOLD_BY_SCORES, len(asked)),
    )
    return Answers.of(told["tokens"], rows_file, told["rows"])


def reference(folder: Path) -> Answers:
    """transformers in float32 on the true checkpoint, with its own rounding error where that has 16 bits."""
    exact = ask(_transformers(folder, "float32"), folder / "reference.f32")
    dtype = job(folder, find("transformers"), "eager").dtype
    if dtype == "float32":
        return exact
    rounded = ask(_transformers(folder, dtype), folder / "rounded.f32", exact)
    assert rounded.rows_file is not None and rounded.row_shape is not None
    return replace(exact, rounding=rounding_of(exact, rounded.rows_file, rounded.row_shape))


def _transformers(folder: Path, dtype: str) -> Engine:
    backend = find("transformers")
    asked = job(folder, backend, "eager")
    variant = replace(asked.variant, precision="fp32" if dtype == "float32" else "model")
    return backend.load(replace(asked, variant=variant, dtype=dtype))


def load(backend: Backend, variant: str, folder: Path) -> Engine:
    """Convert, where the variant needs it, beside the checkpoint; then load with room for two prompts."""
    asked = replace(job(folder, backend, variant), max_context_tokens=MAX_CONTEXT)
    if asked.variant.prepares:
        artifact = folder.parent / f"{folder.name}-{backend.name}-{asked.variant.prepared_as or variant}"
        asked = replace(asked, artifact_dir=artifact)
        if not artifact.exists():
            artifact.mkdir()
            backend.prepare(asked, artifact, lambda line: None)
    return backend.load(asked)


def planted(folder: Path, name: str, plant: "Plant") -> Path:
    """A copy of a checkpoint with an error in it."""
    made = folder.parent / f"{folder.name}-{name}"
    if not made.exists():
        shutil.copytree(folder, made, ignore=shutil.ignore_patterns("*.f32"))
        plant(made)
    return made


Plant = Callable[[Path], None]


def configured(**changes: Any) -> Plant:
    """config.json says otherwise."""

    def plant(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return plant


def permuted(ending: str) -> Plant:
    """The rows of one weight are rolled by one: as a transposed, misread or wrongly split tensor would be."""
    return _tensor(ending, lambda weight: weight.roll(1, 0))


def without(ending: str) -> Plant:
    """A tensor is zero, in every layer."""
    return _tensor(ending, lambda weight: weight * 0, every=True)


def _tensor(ending: str, change: Callable[[Any], Any], *, every: bool = False) -> Plant:
    def plant(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        tensors = load_file(file)
        names = sorted(name for name in tensors if name.endswith(ending))
        assert names, f"no tensor ends in {ending}"
        for name in names if every else names[-1:]:
            assert tensors[name].any(), f"{name} is zero already"
            tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, file, {"format": "pt"})

    return plant


def cut(whole: Path, rung: Rung) -> Path:
    """A checkpoint of a model's first layers, whose weights and widths are the whole model's."""
    from safetensors.torch import load_file, save_file

    made = whole.parent / f"{whole.name}-cut"
    if not made.exists():
        shutil.copytree(whole, made, ignore=shutil.ignore_patterns("*.f32", "*.safetensors"))
        config = json.loads((whole / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(cut_config(config, rung)))
        beyond = tuple(f".layers.{number}." for number in range(rung.layers, rung.of))
        tensors = load_file(whole / "model.safetensors")
        kept = {name: tensor for name, tensor in tensors.items() if not any(layer in name for layer in beyond)}
        assert len(kept) < len(tensors)
        save_file(kept, made / "model.safetensors", {"format": "pt"})
    return made


class Around(Engine):
    """A real engine in which something goes wrong."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.scores_its_steps = engine.scores_its_steps  # type: ignore[misc]  # what is around decides for itself

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        return self.engine.generate(prompts, new_tokens)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        return self.engine.score(prompt, continuation)


class Mute(Around):
    """Nothing is wrong, but it gives no scores."""

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> None:
        return None


class SwappedRows(Around):
    """The answers of a batch come in the wrong order."""

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        made = self.engine.generate(prompts, new_tokens)
        return Generation(tokens=made.tokens[::-1], arrivals=made.arrivals)


class StaleCache(Around):
    """Generates with the prompt of the last call still in the cache; scores are right."""

    last: tuple[int, ...] = ()

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        given = [[*self.last, *prompt] for prompt in prompts]
        self.last = tuple(prompts[0])[-PROMPT_TOKENS[-1] :]
        return self.engine.generate(given, new_tokens)


class EarlyStop(Around):
    """Stops a token before it should."""

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        made = self.engine.generate(prompts, new_tokens)
        return Generation(tokens=tuple(t[:-1] for t in made.tokens), arrivals=tuple(t[:-1] for t in made.arrivals))


class FilledUp(Around):
    """Stops early, and fills up what is missing with the last token."""

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        made = self.engine.generate(prompts, new_tokens)
        kept = (new_tokens + 1) // 2
        tokens = tuple(row[:kept] + row[kept - 1 : kept] * (new_tokens - kept) for row in made.tokens)
        return Generation(tokens=tokens, arrivals=made.arrivals)

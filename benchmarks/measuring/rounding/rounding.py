"""Measures what calibration/check/tolerance.py allows in 16 bits: multiples of a model's own rounding error.

`python -m benchmarks.measuring.rounding [--seeds 3] [--layers 3,12] [MODEL ...]` writes small models with random
weights, and lets every engine that holds 16 bits answer the check's short prompts, along the paths of transformers in
float32. Then transformers in bfloat16 answers with an error planted. A row is a candidate or an error: the smallest and
the largest multiple of the rounding error over all models and seeds, of the median and of the mean divergence, and of a
score's difference.
"""

import argparse
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measuring.rounding.models import MODELS, VOCAB, config_of
from calibration.backend import Engine, Job
from calibration.check.agreement import NEW_TOKENS, PROMPT_TOKENS, Answers, fixed_prompts, rounding_of
from calibration.check.tolerance import Rounding
from calibration.checkpoints.random_weights import write_random_checkpoint
from calibration.registry import find
from calibration.worker.answers import answer, refer

CANDIDATES = (
    ("transformers", "sdpa"),
    ("openvino", "fp16-sdpa"),
    ("llamacpp", "f16"),
    ("llamacpp", "bf16"),
)
"""Those that give scores; openvino:fp16-pa gives none."""
REFUSED = {("llamacpp", "mistral")}
"""By a rule: llama.cpp honours no window of Mistral's."""
PROMPTS = fixed_prompts(VOCAB, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """What is planted in a copy of the checkpoint."""

    config: Mapping[str, Any]
    """Said otherwise."""
    weight: str = ""
    """Ending of the name of a tensor whose rows are rolled by one, in the last layer alone."""


def errors_in(config: Mapping[str, Any]) -> dict[str, Error]:
    """The errors that a model of this config can have."""
    errors = {"a permuted weight": Error(config={}, weight="v_proj.weight")}
    if config["model_type"] == "gpt2":
        return {"a permuted weight": Error(config={}, weight="mlp.c_proj.weight")}
    # Of Gemma 3 the one of the layers with a window: it may have no others.
    theta = "rope_local_base_freq" if "rope_local_base_freq" in config else "rope_theta"
    if theta in config:
        errors["another rope theta"] = Error(config={theta: 2 * config[theta]})
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        errors["a window off by one"] = Error(config={"sliding_window": config["sliding_window"] + 1})
    return errors


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measuring.rounding", description=__doc__.splitlines()[0]
    )
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", default="3,12", help="depths, separated by commas")
    asked = parser.parse_args()
    found: dict[str, list[tuple[str, Rounding]]] = defaultdict(list)
    for name in asked.models:
        for layers in map(int, asked.layers.split(",")):
            for seed in range(asked.seeds):
                with tempfile.TemporaryDirectory() as root:
                    multiples = measured(Path(root), config_of(name, layers), seed)
                for label, multiple in multiples.items():
                    found[label].append((f"{name} of {layers} layers, seed {seed}", multiple))
                    print(f"{name}\t{layers}\t{seed}\t{label}\t{multiple}", flush=True)
    for label, multiples_of in found.items():
        print(line(label, multiples_of))
    return 0


def line(label: str, multiples: list[tuple[str, Rounding]]) -> str:
    """A row of the table; the extreme of the median is named."""
    words = [f"{label:30} {len(multiples):3} models"]
    for field in ("median_kl", "mean_kl", "diff"):
        ordered = sorted(multiples, key=lambda found: float(getattr(found[1], field)))
        least, most = (float(getattr(ordered[end][1], field)) for end in (0, -1))
        words.append(f"{field} {least:.2f} to {most:.2f} ({ordered[0][0]}; {ordered[-1][0]})")
    return "  ".join(words)


def measured(root: Path, config: Mapping[str, Any], seed: int) -> dict[str, Rounding]:
    """For each candidate and each planted error: its distances as multiples of the model's rounding error."""
    folder = _written(root / "model", config, seed)
    exact = _reference(_load(folder, "transformers", "eager", "fp32"), root / "exact.f32")
    own = _distance(_load(folder, "transformers", "eager"), exact, root)
    assert own is not None
    found: dict[str, Rounding] = {}
    for backend, variant in CANDIDATES:
        if (backend, config["model_type"]) in REFUSED:
            continue
        try:
            engine = _load(folder, backend, variant)
        except Exception as failure:  # noqa: BLE001  an engine that does not know a model is no candidate
            print(f"{backend}:{variant} does not run {config['model_type']}: {str(failure)[:80]}")
            continue
        _note(found, f"{backend}:{variant}", _distance(engine, exact, root), own)
    for name, error in errors_in(config).items():
        wrong = _load(_planted(folder, error), "transformers", "eager")
        _note(found, name, _distance(wrong, exact, root), own)
    return found


def _note(found: dict[str, Rounding], label: str, distance: Rounding | None, own: Rounding) -> None:
    if distance is not None:
        fields = ("median_kl", "mean_kl", "diff")
        found[label] = Rounding(
            **{field: getattr(distance, field) / getattr(own, field) for field in fields},
            mean_margin=distance.mean_margin,
        )


def _written(folder: Path, config: Mapping[str, Any], seed: int) -> Path:
    source = folder.with_name("config")
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_random_checkpoint(source, folder, seed)
    return folder


def _planted(folder: Path, error: Error) -> Path:
    from safetensors.torch import load_file, save_file

    made = Path(tempfile.mkdtemp(dir=folder.parent)) / "wrong"
    shutil.copytree(folder, made)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (made / "config.json").write_text(json.dumps({**config, **error.config}), encoding="utf-8")
    if error.weight:
        tensors = load_file(made / "model.safetensors")
        name = max((name for name in tensors if name.endswith(error.weight)), key=_layer)
        tensors[name] = tensors[name].roll(1, 0).contiguous()
        save_file(tensors, made / "model.safetensors", {"format": "pt"})
    return made


def _layer(name: str) -> int:
    return next(int(part) for part in name.split(".") if part.isdigit())


def _load(folder: Path, backend_name: str, variant_name: str, precision: str = "") -> Engine:
    backend = find(backend_name)
    variant = backend.variant(variant_name)
    artifact = Path(tempfile.mkdtemp(dir=folder.parent)) if variant.prepares else None
    job = Job(
        model_dir=folder,
        variant=replace(variant, precision=precision or variant.precision),
        artifact_dir=artifact,
        dtype="bfloat16",
        vocab_size=VOCAB,
        device="cpu",
        threads=2,
        max_context_tokens=PROMPT_TOKENS[-1] + 2 * NEW_TOKENS,
        max_batch=2,
    )
    if artifact is not None:
        backend.prepare(job, artifact, print)
    return backend.load(job)


def _reference(engine: Engine, rows_file: Path) -> Answers:
    told = refer(engine, prompts=PROMPTS, new_tokens=NEW_TOKENS, rows_file=str(rows_file))
    return Answers.of_reference(told["paths"], rows_file, told["rows"])


def _distance(engine: Engine, exact: Answers, root: Path) -> Rounding | None:
    """How far an engine's scores are from the exact ones."""
    rows_file = root / "found.f32"
    told = answer(
        engine,
        _generates_nothing,
        prompts=PROMPTS,
        groups=[],
        new_tokens=NEW_TOKENS,
        continuations=[list(exact.path(number)[:-1]) for number in range(len(PROMPTS))],
        rows_file=str(rows_file),
    )
    engine.close()
    return rounding_of(exact, rows_file, (told["rows"][0], told["rows"][1]))


def _generates_nothing(prompts: list[list[int]], count: int) -> list[list[int]]:
    """Scores are asked for, and no group of prompts is to be generated for."""
    raise NotImplementedError(f"{count} tokens after {len(prompts)} prompts")

"""Small checkpoints, written once a session, and the reference that engines are held to."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from calibration.backend import Engine
from calibration.registry import find
from tests.engines import tiny_models
from tests.engines.log_probabilities import LogProbabilities


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """tiny(name, style="published"): the folder of a checkpoint."""
    root = tmp_path_factory.mktemp("tiny")

    def folder(name: str, style: str = "published") -> Path:
        return tiny_models.write(name, style, root)

    return folder


@pytest.fixture(scope="session")
def gguf(tiny: Callable[..., Path]) -> Path:
    """A small Llama in a .gguf file."""
    llamacpp = find("llamacpp")
    tiny_models.load(llamacpp, "f32", tiny("llama")).close()
    return tiny("llama").parent / f"{tiny('llama').name}-llamacpp-f32" / "model.gguf"


@pytest.fixture(scope="session")
def reference(tiny: Callable[..., Path]) -> Callable[..., Engine]:
    """reference(name, style="published"): transformers in fp32 on that checkpoint."""

    @cache
    def loaded(name: str, style: str = "published") -> Engine:
        return tiny_models.load(find("transformers"), "eager-fp32", tiny(name, style))

    return loaded


@pytest.fixture(scope="session")
def normalised(reference: Callable[..., Engine]) -> Callable[..., Engine]:
    """The same, with normalised logits: what llama-server gives."""
    return lambda name, style="published": LogProbabilities(reference(name, style))

"""Models are published under names that say nothing of the machine's folders."""

import pytest

from selector.publish.hosts.public_names import public_names


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("shape:gpt2", "shape:gpt2"),
        ("gpt2", "gpt2"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("/data/models/llama-q4_0.gguf", "llama-q4_0.gguf"),
        ("models/llama-q4_0.gguf", "llama-q4_0.gguf"),
        ("./Qwen2.5-7B-GPTQ/", "Qwen2.5-7B-GPTQ"),
        ("/hub/models--org--model/snapshots/0123abc", "org/model"),
    ],
)
def test_a_published_model_is_named_without_the_folders_of_its_machine(model: str, name: str) -> None:
    assert public_names([model]) == {model: name}


def test_two_folders_of_one_name_are_told_apart() -> None:
    assert public_names(["/a/model", "/b/model"]) == {"/a/model": "model", "/b/model": "b/model"}

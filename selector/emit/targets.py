"""The programs that `autobackend select --emit` writes for, by name."""

from collections.abc import Mapping

from selector.emit import compose, kserve, llama_server, llama_swap, lmdeploy, ollama, vllm
from selector.emit.target import Target

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        lmdeploy.TARGET,
        vllm.TARGET,
        llama_server.TARGET,
        ollama.TARGET,
        kserve.TARGET,
        llama_swap.TARGET,
        compose.TARGET,
    )
}

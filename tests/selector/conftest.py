"""Models, hosts and backends made in code: `from tests.selector.conftest import FakeBackend, host, spec`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration import backend
from calibration.backend import Backend, Engine, Facts, Job, Model, Variant
from selector.host.spec import Device, HostSpec, Installation
from selector.model.quant.format import QuantFormat
from selector.model.spec import ModelSpec

GIB = 1 << 30

CPU = Device(
    kind="cpu", name="Intel Xeon Processor (sapphirerapids), 2 cores", memory_bytes=16 * GIB, free_bytes=12 * GIB
)
A100 = Device(
    kind="cuda",
    name="NVIDIA A100-SXM4-80GB",
    memory_bytes=80 * GIB,
    free_bytes=79 * GIB,
    capability=(8, 0),
    driver="570.1",
)

FACTS = Facts(
    title="Fake engine",
    url="https://example.org/fake",
    package="fake",
    requires=("fake>=2",),
    install="pip install fake",
    devices=frozenset({"cpu", "cuda"}),
    overhead_bytes=GIB,
)


def spec(**changes: Any) -> ModelSpec:
    """An 8B-like dense model, 16 GB of bfloat16 weights, 128 KiB of KV cache a token."""
    fields: dict[str, Any] = {
        "name": "org/model",
        "folder": Path("/nowhere"),
        "architecture": "LlamaForCausalLM",
        "architectures": ("LlamaForCausalLM",),
        "auto_architecture": None,
        "model_type": "llama",
        "dtype": "bfloat16",
        "quant": QuantFormat(),
        "layers": 32,
        "hidden_size": 4096,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position": 8192,
        "sliding_window": None,
        "window_layers": 0,
        "rope_type": "default",
        "rope_theta": 500000.0,
        "experts": 0,
        "experts_per_token": 0,
        "expert_intermediate_size": 0,
        "tie_word_embeddings": False,
        "vision": False,
        "remote_code": False,
        "inner_architecture": None,
        "parameters": 8_000_000_000,
        "weight_bytes": 16_000_000_000,
        "has_weights": True,
        "weights_identity": "0" * 12,
        "config_hash": "0" * 16,
    }
    return ModelSpec(**(fields | changes))


def installation(versions: Mapping[str, str] | None = None, **changes: Any) -> Installation:
    """An interpreter with fake 2.0 installed, or with `versions`."""
    found = Installation(
        python=Path("/venv/bin/python"), versions={"fake": "2.0"} if versions is None else versions, site_packages=()
    )
    return replace(found, **changes)


def host(**changes: Any) -> HostSpec:
    """A host with two CPU cores, where the backend `fake` is installed."""
    fields: dict[str, Any] = {
        "identifier": "0123456789ab",
        "cpu_name": "sapphirerapids",
        "cpu_model": "Intel Xeon Processor",
        "cpu_features": frozenset({"avx2", "avx512f"}),
        "cores": 2,
        "memory_bytes": 16 * GIB,
        "devices": (CPU,),
        "installations": {"fake": installation()},
    }
    return HostSpec(**(fields | changes))


class FakeBackend(Backend):
    """A backend whose facts and variants the test chooses; it loads nothing."""

    name = "fake"

    def __init__(
        self, *variants: Variant, name: str = "fake", reasons: tuple[str, ...] | Exception = (), **facts: Any
    ) -> None:
        self.name = name  # type: ignore[misc]  # each fake is a backend of its own
        self.facts = replace(FACTS, **facts)  # type: ignore[misc]
        self.variants = variants or (Variant(name="plain"),)  # type: ignore[misc]
        self.reasons = reasons

    def fits(self, model: Model, variant: Variant, device: backend.Device | None = None) -> list[str]:
        if isinstance(self.reasons, Exception):
            raise self.reasons
        return list(self.reasons)

    def load(self, job: Job) -> Engine:
        raise NotImplementedError

"""What the tests of LMDeploy's two engines judge: models on GPUs that this host has not."""

from pathlib import Path
from typing import Any

from calibration.backends.pytorch import PyTorch
from calibration.backends.turbomind.adapter import TurboMind
from calibration.environments.distributions import requirement_name
from selector.demand.demand import Demand
from selector.host.spec import Device, HostSpec
from selector.model.quant.format import QuantFormat
from selector.rules.judge import judge
from tests.selector.conftest import GIB, host, installation, spec

BACKENDS = {backend.name: backend for backend in (TurboMind(), PyTorch())}
VERSIONS = {
    "lmdeploy": "0.18.0",
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "huggingface-hub": "1.33.0",
    "xgrammar": "0.2.8",
    "pydantic": "2.14.3",
}


AWQ = QuantFormat(method="awq", bits=4, group_size=128, version="gemm", symmetric=False, zero_point=True, kind="int")
GPTQ = QuantFormat(method="gptq", bits=4, group_size=128, version="gptq", symmetric=True, desc_act=False, kind="int")
FP8 = QuantFormat(method="fp8", bits=8, activation_scheme="dynamic", format="e4m3", kind="float")
INT4 = QuantFormat(
    method="compressed-tensors", bits=4, group_size=128, format="pack-quantized", strategy="group", symmetric=True
)


def gpu(site: Path, capability: tuple[int, int], name: str = "GPU") -> HostSpec:
    device = Device(
        kind="cuda", name=name, memory_bytes=80 * GIB, free_bytes=80 * GIB, capability=capability, driver="570.1"
    )
    names = {requirement_name(r) for b in BACKENDS.values() for r in b.facts.requires}
    there = installation({n: VERSIONS.get(n, "9") for n in names}, site_packages=(site,))
    return host(devices=(device,), installations=dict.fromkeys(BACKENDS, there))


def explain(machine: HostSpec, folder: Path, demand: Demand | None = None, **changes: Any) -> dict[str, list[str]]:
    """Texts of TurboMind's and of the PyTorch engine's reasons for a Qwen2-like model."""
    fields = {"architecture": "Qwen2ForCausalLM", "folder": folder, "hidden_size": 4096, **changes}
    fields.setdefault("architectures", (fields["architecture"],))
    verdicts = judge(spec(**fields), machine, demand or Demand(), BACKENDS)
    found = {v.candidate.label: [r.text for r in v.reasons] for v in verdicts}
    return {"turbomind": found["turbomind:default"], "pytorch": found["pytorch:graph"]}


def changed(quant: QuantFormat, **fields: Any) -> QuantFormat:
    return QuantFormat(**{name: getattr(quant, name) for name in QuantFormat.__slots__} | fields)

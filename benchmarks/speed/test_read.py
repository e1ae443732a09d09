"""How fast a model and a host are read."""

from pathlib import Path
from typing import Any

from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec


def test_read_a_model(benchmark: Any, model: Path) -> None:
    benchmark.extra_info |= {"what": "ModelSpec.read", "target_s": 0.001}
    assert benchmark(lambda: ModelSpec.read(str(model))).architecture == "Qwen2ForCausalLM"


def test_detect_the_host(benchmark: Any) -> None:
    benchmark.extra_info |= {"what": "HostSpec.detect()", "target_s": 0.1}
    benchmark(HostSpec.detect)

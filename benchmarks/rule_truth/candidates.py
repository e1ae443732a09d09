"""Which candidates are tried with a case: of each engine the most exact variant, in which wrong output shows."""

from collections.abc import Mapping
from typing import Any

from benchmarks.rule_truth.cases.quant_formats import GGUF as GGUF_FORMAT
from calibration.measurement import Candidate

PLAIN = (
    "transformers:sdpa",
    "transformers:eager",
    "llamacpp:f32",
    "onnxruntime:fp32",
    "ctranslate2:float32",
    "openvino:fp32-sdpa",
    "openvino:fp32-pa",
    "openvino:fp16-sdpa",
    "openvino:fp16-pa",
)
QUANTISED = (*PLAIN, "onnxruntime:int4")
GGUF = ("transformers:sdpa", "llamacpp:gguf", "openvino:gguf-sdpa", "openvino:gguf-pa")
LMDEPLOY = ("pytorch:eager", "turbomind:default")
"""On stand-ins for a GPU: see stand_ins.py."""
LOSSY = ("openvino:int8-sdpa", "openvino:int8-pa", "openvino:int4-sdpa", "openvino:int4-pa")
"""Tried where they are named (`--backend openvino:int8-pa`); the check judges them by the bounds of lossy variants."""
_OF_FLOAT32 = frozenset({"openvino:fp32-sdpa", "openvino:fp32-pa"})
_OF_16_BITS = frozenset({"openvino:fp16-sdpa", "openvino:fp16-pa"})
"""Variants that hold the weights of models of this dtype as they are; of others the one set or the other is exact."""


def labels_for(quant: str, content: Mapping[str, Any], *, lmdeploy: bool) -> tuple[str, ...]:
    """The candidates of a case with this quant format and config.json, in the order in which they are tried."""
    if lmdeploy:
        return () if quant.startswith(GGUF_FORMAT) else LMDEPLOY
    if quant.startswith(GGUF_FORMAT):
        return GGUF
    return tuple(label for label in (QUANTISED if quant else PLAIN) if is_exact(label, content))


def is_exact(label: str, content: Mapping[str, Any]) -> bool:
    """Whether no other variant of the engine is the one for models of this config.json's dtype."""
    dtype = content.get("dtype") or content.get("torch_dtype") or "float32"
    return label not in (_OF_16_BITS if dtype == "float32" else _OF_FLOAT32)


def named(labels: tuple[str, ...], names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Of these labels those that are named, by themselves or by their backend; all where nothing is named."""
    return tuple(label for label in labels if not names or label in names or label.partition(":")[0] in names)


def candidate_of(label: str) -> Candidate:
    backend, _, variant = label.partition(":")
    return Candidate(backend=backend, variant=variant)

"""Which candidates are tried with a case: of each engine the most exact variant, in which wrong output shows."""

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
)
QUANTISED = (*PLAIN, "onnxruntime:int4")
GGUF = ("transformers:sdpa", "llamacpp:gguf", "openvino:gguf-sdpa", "openvino:gguf-pa")
LMDEPLOY = ("pytorch:eager", "turbomind:default")
"""On stand-ins for a GPU: see stand_ins.py."""


def labels_for(quant: str, *, lmdeploy: bool) -> tuple[str, ...]:
    """The candidates of a case with this quant format, in the order in which they are tried."""
    if lmdeploy:
        return () if quant.startswith(GGUF_FORMAT) else LMDEPLOY
    return GGUF if quant.startswith(GGUF_FORMAT) else QUANTISED if quant else PLAIN


def named(labels: tuple[str, ...], names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Of these labels those that are named, by themselves or by their backend; all where nothing is named."""
    return tuple(label for label in labels if not names or label in names or label.partition(":")[0] in names)


def candidate_of(label: str) -> Candidate:
    backend, _, variant = label.partition(":")
    return Candidate(backend=backend, variant=variant)

"""The kinds of accelerators."""

KINDS = {
    "cpu": "a CPU",
    "cuda": "an NVIDIA GPU",
    "rocm": "an AMD GPU",
    "ascend": "an Ascend NPU",
    "maca": "a MetaX GPU",
    "camb": "a Cambricon MLU",
}
"""Device.kind: what people call it; in the order in which they are told."""

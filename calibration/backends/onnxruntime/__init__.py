"""ONNX Runtime GenAI: its adapter, and how its graphs serve requests that come and go."""

from calibration.backends.onnxruntime.adapter import OnnxRuntimeBackend as OnnxRuntimeBackend

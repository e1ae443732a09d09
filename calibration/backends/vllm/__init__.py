"""vLLM: its adapter, and its engine, which is stepped in our process."""

from calibration.backends.vllm.adapter import VllmBackend as VllmBackend

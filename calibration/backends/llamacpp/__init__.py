"""llama.cpp: its adapter, and how a Hugging Face folder becomes a GGUF file."""

from calibration.backends.llamacpp.adapter import LlamaCppBackend as LlamaCppBackend

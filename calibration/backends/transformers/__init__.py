"""Hugging Face transformers: its adapter, its decode loop, and a model that is run a layer at a time."""

from calibration.backends.transformers.adapter import TransformersBackend as TransformersBackend

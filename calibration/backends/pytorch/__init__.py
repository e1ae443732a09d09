"""LMDeploy's PyTorch engine: its adapter, and what it loads and then computes wrong."""

from calibration.backends.pytorch.adapter import PyTorch as PyTorch

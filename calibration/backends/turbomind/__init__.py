"""LMDeploy's TurboMind: its adapter, and what its kernels cannot compute."""

from calibration.backends.turbomind.adapter import TurboMind as TurboMind

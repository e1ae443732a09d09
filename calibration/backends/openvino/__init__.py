"""OpenVINO GenAI: its adapter, and how a model becomes an OpenVINO graph."""

from calibration.backends.openvino.adapter import OpenVinoBackend as OpenVinoBackend

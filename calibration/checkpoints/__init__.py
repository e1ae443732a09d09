"""Checkpoints that we write: with random weights, or a quantised one as the float16 model that it stands for."""

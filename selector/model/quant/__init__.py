"""How a checkpoint's weights are quantised, from every quantization_config in use."""

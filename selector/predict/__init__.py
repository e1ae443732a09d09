"""What is known before a model is measured here: the machine's own limits."""

"""What is known before a model is measured here: what others measured, a model of times, and the machine's limits."""

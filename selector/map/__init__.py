"""The map of a model on a host: which candidate is best at which prompt, output and batch, as text and as an SVG."""

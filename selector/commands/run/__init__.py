"""The commands that start engines: to measure them, to check their output, or to serve."""

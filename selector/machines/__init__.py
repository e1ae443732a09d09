"""Machines that one does not hold: a library of public ones, files of `host --json`, and which of them run a model."""

"""The commands that answer from what is known; they start no engine."""

"""Puts another engine in the place of the one that answers, where that is surely better for what really came."""

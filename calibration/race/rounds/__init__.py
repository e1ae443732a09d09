"""The race in rounds: each round launches every candidate that is still in the race once, and drops who is slower."""

"""What candidates do as servers under load, by what was measured here: figures of a load, and who is best at it."""

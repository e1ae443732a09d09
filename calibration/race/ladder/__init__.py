"""The race on a ladder: candidates climb from what is predicted to a few layers, and from there to the whole model."""

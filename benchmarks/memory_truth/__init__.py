"""Predicted memory beside measured: what loading, serving and converting hold at their peak, and how far off it is."""

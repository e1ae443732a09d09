"""Configurations of other programs for what was chosen."""

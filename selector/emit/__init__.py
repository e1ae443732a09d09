"""Configurations of other programs for what was chosen: a module for each program."""

"""Installs backends into virtual environments of their own, and tries each with a tiny model."""

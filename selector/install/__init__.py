"""Installs backends into environments of their own, and tries each with a tiny model."""

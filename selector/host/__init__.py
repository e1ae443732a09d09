"""This machine: its devices, its CPU, and what is installed on it."""

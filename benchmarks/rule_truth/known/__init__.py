"""Disagreements of rules and truth whose cause is known: a file for each backend, and what reads them."""

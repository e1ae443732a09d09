"""A model as its config.json and its weight files describe it; no weights are opened and no code is run."""

"""The small models that are tried: what is in their configs, and how their files are written and kept."""

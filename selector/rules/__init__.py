"""Which backends are legal for a model on a host: one function a rule."""

"""Facts about a backend, data that stands beside it: what it needs of a host and a model, its variants, its memory."""

"""What must hold for a backend to load a model, its variants and what it takes and holds: data beside each backend."""

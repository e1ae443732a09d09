"""From a selection to its engine: what its server is told, or the engine itself, here or in a worker."""

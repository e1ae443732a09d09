"""Changes of one token in the core, which its own tests must notice."""

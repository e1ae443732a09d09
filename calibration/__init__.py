"""Times one backend and remembers it; it is handed candidates and never looks for them."""

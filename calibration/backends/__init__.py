"""One file is one backend."""

"""What an interpreter has installed, which interpreter runs a backend, and the backends' virtual environments."""

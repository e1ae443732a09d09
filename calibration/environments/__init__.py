"""What an interpreter has installed, and virtual environments of the backends' own."""

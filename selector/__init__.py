"""Which backends can run a model here, and which of them is fastest."""

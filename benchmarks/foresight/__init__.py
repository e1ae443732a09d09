"""How good an answer is before anything was measured: hosts and models are left out of what ships, then predicted."""

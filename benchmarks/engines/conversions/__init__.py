"""How much memory each backend's conversions take at their peak, for the facts that stand beside the backends."""

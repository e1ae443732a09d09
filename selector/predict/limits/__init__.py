"""The limits of a machine: the probe of its memory and arithmetic, and which share of them a time makes use of."""

"""What the user wants done with a model: a workload, an objective, targets, a price, or the traffic that came."""

"""A fleet that is calibrated: the planner alone on thousands of simulated hosts, and a real one whose hosts are killed."""

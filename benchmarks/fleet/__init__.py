"""A fleet that is calibrated: the planner alone on simulated hosts, and a real one of which parts are killed."""

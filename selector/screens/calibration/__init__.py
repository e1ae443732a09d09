"""A calibration as its user sees it: what will be done, a line for what is being done, and what came out."""

"""Policies of a calibration, replayed over the launches that hosts have recorded."""

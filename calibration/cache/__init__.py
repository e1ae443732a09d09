"""The calibration cache: every launch that was ever made, in SQLite or another database."""

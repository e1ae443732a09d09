"""What a calibration will measure, and the calibration itself."""

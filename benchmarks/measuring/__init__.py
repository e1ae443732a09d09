"""Whether what a calibration measures is right: beside others' figures, on a few layers only, and in 16 bits."""

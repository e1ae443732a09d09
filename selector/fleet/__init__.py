"""One calibration for many hosts: which of them are alike, who calibrates what, and whose results hold for whom."""

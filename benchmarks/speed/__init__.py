"""How fast and how small autobackend itself is: the suites of pytest-benchmark."""

"""`python -m benchmarks.measuring.rounding`: see rounding.py."""

from benchmarks.measuring.rounding.rounding import main

raise SystemExit(main())

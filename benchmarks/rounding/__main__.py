"""`python -m benchmarks.rounding`: see rounding.py."""

from benchmarks.rounding.rounding import main

raise SystemExit(main())

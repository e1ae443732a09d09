"""`python -m benchmarks.conversions`: see conversions.py."""

from benchmarks.conversions.conversions import main

raise SystemExit(main())

"""`python -m benchmarks.engines.conversions`: see conversions.py."""

from benchmarks.engines.conversions.conversions import main

raise SystemExit(main())

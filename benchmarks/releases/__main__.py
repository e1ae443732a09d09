"""`python -m benchmarks.releases`: see releases.py."""

from benchmarks.releases.releases import main

raise SystemExit(main())

"""`python -m benchmarks.engines.releases`: see releases.py."""

from benchmarks.engines.releases.releases import main

raise SystemExit(main())

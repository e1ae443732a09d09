"""`python -m benchmarks.measuring.cuts`: see cuts.py."""

from benchmarks.measuring.cuts.cuts import main

raise SystemExit(main())

"""`python -m benchmarks.cuts`: see cuts.py."""

from benchmarks.cuts.cuts import main

raise SystemExit(main())

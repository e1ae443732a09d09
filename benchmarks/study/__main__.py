"""`python -m benchmarks.study`: see study.py."""

from benchmarks.study.study import main

raise SystemExit(main())

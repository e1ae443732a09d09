"""`python -m benchmarks.served`: see study.py."""

from benchmarks.served.study import main

raise SystemExit(main())

"""`python -m benchmarks.measuring.judge`: see judge.py."""

from benchmarks.measuring.judge.judge import main

raise SystemExit(main())

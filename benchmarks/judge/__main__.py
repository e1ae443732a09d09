"""`python -m benchmarks.judge`: see judge.py."""

from benchmarks.judge.judge import main

raise SystemExit(main())

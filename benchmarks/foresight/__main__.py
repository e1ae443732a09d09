"""`python -m benchmarks.foresight`: see foresight.py."""

from benchmarks.foresight.foresight import main

raise SystemExit(main())

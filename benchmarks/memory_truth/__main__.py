"""`python -m benchmarks.memory_truth`: see memory_truth.py."""

from benchmarks.memory_truth.memory_truth import main

raise SystemExit(main())

"""`python -m benchmarks.rule_truth`: see rule_truth.py."""

from benchmarks.rule_truth.rule_truth import main

raise SystemExit(main())

"""`python -m benchmarks.measuring.fidelity`: see fidelity.py."""

from benchmarks.measuring.fidelity.fidelity import main

raise SystemExit(main())

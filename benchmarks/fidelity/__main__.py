"""`python -m benchmarks.fidelity`: see fidelity.py."""

from benchmarks.fidelity.fidelity import main

raise SystemExit(main())

"""`python -m benchmarks.real_model`: see real_model.py."""

from benchmarks.real_model.real_model import main

raise SystemExit(main())

"""`python -m benchmarks.engines.real_model`: see real_model.py."""

from benchmarks.engines.real_model.real_model import main

raise SystemExit(main())

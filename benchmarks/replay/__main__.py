"""`python -m benchmarks.replay`: see replay.py."""

from benchmarks.replay.replay import main

raise SystemExit(main())

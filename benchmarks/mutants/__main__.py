"""`python -m benchmarks.mutants`: see mutants.py."""

from benchmarks.mutants.mutants import main

main()

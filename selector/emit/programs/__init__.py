"""The programs that `select --emit` writes for: each is one file, and adding one touches nothing else."""

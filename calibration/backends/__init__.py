"""The backends: each is one file or one folder, and adding one touches nothing else."""

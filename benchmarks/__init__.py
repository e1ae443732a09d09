"""Benchmarks of autobackend itself: how fast it answers, how much memory it takes, how little it adds to what it times."""

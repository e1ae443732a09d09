"""Benchmarks of autobackend itself: how fast it answers, what memory it takes, how little it adds to what it times."""

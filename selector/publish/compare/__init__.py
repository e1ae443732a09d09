"""Results beside older ones: what became worse or better, and who is the fastest now."""

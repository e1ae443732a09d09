"""The cache as many hosts share it, in PostgreSQL: many writers at once, and how fast `select` answers from it."""

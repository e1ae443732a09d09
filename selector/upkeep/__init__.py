"""What an upgrade made stale in the cache, whether that could change an answer, and measuring it again."""

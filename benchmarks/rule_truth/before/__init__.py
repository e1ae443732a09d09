"""What the rules of an earlier commit say of the pairs that are recorded."""

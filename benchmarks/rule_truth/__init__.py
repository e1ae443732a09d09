"""What the rules say of every small model and engine, beside what loading it shows."""

"""What is kept as a row of a table, and back: launches, the points of those under load, probes of machines."""

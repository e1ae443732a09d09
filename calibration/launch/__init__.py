"""One launch of one candidate: convert, load, check, time; the reference that it is checked against."""

"""The kinds of accelerators: each is one file that says how its devices are found."""

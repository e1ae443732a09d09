"""The commands of `autobackend`: NAME.py is the command NAME. Like cli.py they may import click and print."""

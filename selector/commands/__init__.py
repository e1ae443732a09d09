"""The commands of `autobackend`: NAME.py in one of the folders is the command NAME. They may import click and print."""

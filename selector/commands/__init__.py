"""Groups of subcommands of `autobackend`; like cli.py they may import click and print."""

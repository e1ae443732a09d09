"""`autobackend publish`: the measurements as files for others to read."""

from pathlib import Path

import click

from calibration import errors
from selector.commands.options import cache_option, examples, json_option
from selector.commands.terminal import across, note, open_cache, show, show_json


@click.command(
    epilog=examples(
        "autobackend publish --out results",
        "autobackend publish --out new --compare results",
        "autobackend publish --compare before-the-upgrade.jsonl --json",
    )
)
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    show_default=True,
    help="Where to.",
)
@click.option(
    "--compare",
    "older",
    metavar="OLD",
    type=click.Path(path_type=Path),
    help="Fail where results are worse than OLD: a file of results/hosts, a results folder, or a cache export.",
)
@cache_option
@json_option
def publish(out: Path, older: Path | None, cache: str | None, as_json: bool) -> None:
    """Write this host's raw FOLDER/hosts/HOST.json, and the pages of all hosts in FOLDER.

    matrix.html shows everything, matrix.md is a summary, hosts/HOST.md is the page of each host.
    """
    from selector.publish.compare.compare import compare
    from selector.publish.compare.compared import comparison_lines, comparison_sentence
    from selector.publish.compare.older import read_older
    from selector.publish.publish import publish as write

    # Before anything is written: OLD may be FOLDER.
    before = read_older(older) if older else []
    with open_cache(cache) as opened:
        written = write(opened, out)
    comparison = compare(before, read_older(out)) if older else None
    if as_json:
        compared = {"compared": comparison.to_json()} if comparison else {}
        show_json({"written": [str(path) for path in written], **compared})
    elif comparison is None:
        show(map(str, written))
    else:
        show(comparison_lines(comparison, across()))
    if comparison is not None:
        note(comparison_sentence(comparison))
        if comparison.worse:
            raise errors.Worse(
                f"{len(comparison.worse)} of the results in {out} are worse than in {older}",
                "measure again what is in doubt: autobackend calibrate MODEL --again",
            )

"""`autobackend artifacts`: random checkpoints, converted models and references that were made once."""

from typing import TYPE_CHECKING

import click

from selector.commands.terminal import examples, json_option, show, show_json
from selector.screen import age, columns, plural, seconds, size

if TYPE_CHECKING:
    from calibration.artifact import Artifact

KINDS = ("checkpoint", "converted", "reference")


@click.group(epilog=examples("autobackend artifacts list", "autobackend artifacts prune --older-than 30"))
def artifacts() -> None:
    """What was made once: random checkpoints, converted models, references."""


@artifacts.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the artifacts, the newest first."""
    from calibration.artifact import ArtifactStore

    store = ArtifactStore()
    found = store.list()
    if as_json:
        show_json([_json(a) for a in found])
        return
    if not found:
        click.echo(f"no artifacts in {store.root}", err=True)
        return
    rows = [("kind", "model", "backend", "size", "made in", "made")]
    rows += [
        (a.kind, a.key.get("model", "-"), _backend(a), size(a.bytes), seconds(a.seconds), age(a.created_at))
        for a in found
    ]
    show(columns(rows, "<<<>>>"))
    click.echo(f"{plural(len(found), 'artifact')}, {size(sum(a.bytes for a in found))} in {store.root}", err=True)


@artifacts.command()
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(0), help="Only those made longer ago.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only of this kind; may be repeated.")
@json_option
def prune(older_than: float | None, kinds: tuple[str, ...], as_json: bool) -> None:
    """Delete artifacts; what is needed again is made again."""
    from calibration.artifact import ArtifactStore

    gone = ArtifactStore().prune(older_than_days=older_than, kinds=kinds)
    if as_json:
        show_json([_json(a) for a in gone])
    else:
        click.echo(f"deleted {plural(len(gone), 'artifact')}, {size(sum(a.bytes for a in gone))}")


def _backend(artifact: "Artifact") -> str:
    return ":".join(part for part in (artifact.key.get("backend"), artifact.key.get("variant")) if part) or "-"


def _json(artifact: "Artifact") -> dict[str, object]:
    return {
        "kind": artifact.kind,
        "path": str(artifact.path),
        "key": dict(artifact.key),
        "bytes": artifact.bytes,
        "seconds": artifact.seconds,
        "created_at": artifact.created_at,
    }

"""`autobackend artifacts`: random checkpoints, first layers, converted models and references that were made once."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from calibration.rung import Rung
from selector.commands.options import examples, json_option
from selector.commands.terminal import show, show_json
from selector.screens.text import age, columns, plural, seconds, size

if TYPE_CHECKING:
    from calibration.conversion.artifact import Artifact

KINDS = ("checkpoint", "cut", "converted", "reference")


@click.group(
    epilog=examples(
        "autobackend artifacts list",
        "autobackend artifacts prune --older-than 30",
        "autobackend artifacts prune --gone",
    )
)
def artifacts() -> None:
    """What was made once: random checkpoints, first layers, converted models, references."""


@artifacts.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the artifacts, the newest first."""
    from calibration.conversion.store import ArtifactStore

    store = ArtifactStore()
    listed = store.list()
    if as_json:
        show_json([a.to_json() for a in listed])
        return
    unfinished = store.unfinished()
    if not listed and not unfinished:
        click.echo(f"no artifacts in {store.root}", err=True)
        return
    rows = [("kind", "model", "backend", "size", "made in", "memory", "made")]
    rows += [
        (
            *(a.kind, _model(a), _backend(a), size(a.bytes), seconds(a.seconds)),
            size(a.peak_memory_bytes) if a.peak_memory_bytes is not None else "-",
            age(a.created_at),
        )
        for a in listed
    ]
    if listed:
        show(columns(rows, "<<<>>>>"))
    kinds = dict.fromkeys(a.kind for a in listed)
    each = [f"{size(sum(a.bytes for a in listed if a.kind == kind))} {kind}" for kind in kinds]
    total = f"{plural(len(listed), 'artifact')}, {size(sum(a.bytes for a in listed))}"
    free = f"{size(store.free_bytes())} free"
    parts = f" ({', '.join(each)})" if len(each) > 1 else ""
    click.echo(f"{total}{parts} in {store.root}; {free}", err=True)
    if unfinished:
        left = f"{plural(len(unfinished), 'artifact')}, {size(sum(u.bytes for u in unfinished))}"
        click.echo(f"unfinished: {left}; what killed makers left goes with the next prune", err=True)


@artifacts.command()
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(0), help="Only those made longer ago.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only of this kind; may be repeated.")
@click.option("--model", metavar="MODEL", help="Only of this model, as it was named.")
@click.option("--gone", is_flag=True, help="Only of models that are not there any more.")
@json_option
def prune(older_than: float | None, kinds: tuple[str, ...], model: str | None, gone: bool, as_json: bool) -> None:
    """Delete artifacts that meet every condition given (all without one); what is needed again is made again."""
    from calibration.conversion.store import ArtifactStore

    def chosen(artifact: "Artifact") -> bool:
        return (model is None or artifact.key.get("model") == model) and (not gone or _is_gone(artifact))

    deleted = ArtifactStore().prune(older_than_days=older_than, kinds=kinds, only=chosen)
    if as_json:
        show_json([a.to_json() for a in deleted])
    else:
        click.echo(f"deleted {plural(len(deleted), 'artifact')}, {size(sum(a.bytes for a in deleted))}")


def _is_gone(artifact: "Artifact") -> bool:
    """Whether the model was a folder or a file that is no longer there, or a shape that is no longer in the library.

    Of a relative path, which may be of another folder, and of a hub id nobody can say.
    """
    from selector.model.spec import shape_names

    name = artifact.key.get("model", "")
    if name.startswith("shape:"):
        return name.removeprefix("shape:") not in shape_names()
    path = Path(name).expanduser()
    return path.is_absolute() and not path.exists()


def _model(artifact: "Artifact") -> str:
    """`shape:llama-3.1-8b, 3 of 32 layers`."""
    cut = artifact.key.get("cut")
    return artifact.key.get("model", "-") + (f", {Rung.parse(cut)}" if cut else "")


def _backend(artifact: "Artifact") -> str:
    return ":".join(part for part in (artifact.key.get("backend"), artifact.key.get("variant")) if part) or "-"

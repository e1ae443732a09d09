"""`autobackend cache`: what the calibrations left."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from calibration import errors
from calibration.measurement import Check, Failure, Identity, Measurement, Outcome, Served, to_json
from calibration.registry import all_backends
from selector.commands.options import cache_option, examples, json_option, model_argument
from selector.commands.terminal import note, open_cache, show, show_json, warn
from selector.screens.served import whole
from selector.screens.text import age, columns, cv_of_one, decode, output, plural, prefill, rate, shown_cell, size


@click.group(
    epilog=examples(
        "autobackend cache list",
        "autobackend cache export --out rows.jsonl",
        "autobackend cache import rows.jsonl",
        "autobackend cache snapshot --cache postgresql://me@db/autobackend fleet.db",
        "autobackend cache prune --older-than 90",
    )
)
def cache() -> None:
    """The measurements: list, show, move and forget them."""


@cache.command()
@cache_option
def path(cache: str | None) -> None:
    """Print where the cache is; say where the fleet's is, which is read below it."""
    with open_cache(cache) as opened:
        click.echo(opened.location)
        for level in opened.levels[1:]:
            newest = max((launch.started_at for launch in level.reader.newest(1)), default=None)
            told = "it has no launches" if newest is None else f"its newest launch ran {age(newest)}"
            made = "" if level.made_at is None else f"a snapshot made {age(level.made_at)}; "
            note(f"below it the fleet's cache is read: {level.location} ({made}{told})")


@cache.command("list")
@cache_option
@json_option
def list_(cache: str | None, as_json: bool) -> None:
    """List what was measured: a line for each model, device and host."""
    with open_cache(cache) as opened:
        listed = _listed(opened.all())
        location = opened.location
    if as_json:
        show_json([line.to_json() for line in listed])
        return
    if not listed:
        click.echo(f"nothing was measured yet; the cache is {location}", err=True)
        return
    rows = [("model", "architecture", "quant", "device", "host", "launches", "failed", "newest")]
    for line in listed:
        key, counts = line.identity, (str(len(line.outcomes)), str(line.failures))
        rows.append((line.name, key.architecture, key.quant, key.device, key.host, *counts, age(line.newest)))
    show(columns(rows, "<<<<<>>>"))


@cache.command("show")
@model_argument
@cache_option
@json_option
def show_(model: str, cache: str | None, as_json: bool) -> None:
    """Show every launch of MODEL, named as it was when it was measured."""
    with open_cache(cache) as opened:
        launches = list(opened.all(model=model))
        names = sorted({o.model for o in opened.all()}) if not launches else []
    if not launches:
        mend = f"measured were: {', '.join(names)}" if names else f"measure it: autobackend calibrate {model}"
        raise errors.UsageError(f"the cache has no launch of {model}", mend)
    if as_json:
        show_json([to_json(o) for o in launches])
        return
    rows = [("candidate", "round", "when", "versions", "outcome")]
    rows += [(o.candidate.label, str(o.round), age(o.started_at), _versions(o), _result(o)) for o in launches]
    show(columns(rows, "<>>"))


@cache.command()
@click.option(
    "--out", metavar="FILE", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Default: stdout."
)
@click.option("--model", help="Only of this model.")
@click.option("--host", help="Only of this host (see `cache list`).")
@cache_option
def export(out: TextIO, cache: str | None, **conditions: str | None) -> None:
    """Write launches, raw samples and all, and the probes of their hosts, as JSON lines."""
    with open_cache(cache) as opened:
        count = opened.export(out, **_given(conditions))
    click.echo(f"exported {plural(count, 'launch')}", err=True)


@cache.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", help="Only of this model.")
@click.option("--host", help="Only of this host (see `cache list`).")
@click.option("--device", help="Only on this device (see `cache list`).")
@cache_option
def snapshot(file: Path, cache: str | None, **conditions: str | None) -> None:
    """Write launches, and the probes of their hosts, into FILE, which is only read.

    It is an SQLite file that needs nothing beside it, for machines without a network: name it there by
    AUTOBACKEND_FLEET_CACHE. A snapshot that is there is replaced.
    """
    with open_cache(cache) as opened:
        written = opened.snapshot(file, **_given(conditions))
    click.echo(
        f"{file}: {plural(written.launches, 'launch')}, {plural(written.probes, 'probe')} of a machine,"
        f" {written.bytes // 1024:,} KiB",  # a ConfigMap holds 1,024
        err=True,
    )


@cache.command("import")
@click.argument("files", nargs=-1, required=True, type=click.File("r", encoding="utf-8", errors="replace"))
@cache_option
def import_(files: tuple[TextIO, ...], cache: str | None) -> None:
    """Take in FILES that `cache export` wrote (`-`: stdin); what is known already is left alone."""
    with open_cache(cache) as opened:
        for file in files:
            imported = opened.import_(file)
            probes = f"; {plural(imported.probes, 'new probe')} of a machine" if imported.probes else ""
            click.echo(
                f"{file.name}: {plural(imported.added, 'launch')} added, {imported.duplicates:,} known already{probes}"
            )
            for bad in imported.bad[:10]:
                warn(f"{file.name}, line {bad.number}, left out: {bad.reason}")
            if len(imported.bad) > 10:
                warn(f"{file.name}: {len(imported.bad) - 10:,} more lines left out")


@cache.command()
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(0), help="Launches from longer ago.")
@click.option("--model", help="Launches of this model.")
@click.option("--host", help="Launches of this host.")
@click.option("--backend", help="Launches of this backend.")
@click.option("--version", "versions", metavar="PACKAGE=VERSION", multiple=True, help="Launches with this version.")
@cache_option
def prune(older_than: float | None, versions: tuple[str, ...], cache: str | None, **conditions: str | None) -> None:
    """Forget launches that meet every condition given; at least one is needed."""
    for text in versions:
        if "=" not in text:
            raise errors.UsageError(f"needs PACKAGE=VERSION; found {text!r}", "as in --version torch=2.12.0")
    environment = dict(text.replace("==", "=").split("=", 1) for text in versions)
    given = _given(conditions)
    if older_than is None and not environment and not given:
        raise errors.UsageError(
            "needs to be told what to forget; found no condition", "see autobackend cache prune --help"
        )
    limit = None if older_than is None else time.time() - older_than * 86400
    with open_cache(cache) as opened:
        count = opened.prune(older_than=limit, environment=environment or None, **given)
    click.echo(f"forgot {plural(count, 'launch')}")


@cache.command()
@cache_option
@json_option
def check(cache: str | None, as_json: bool) -> None:
    """Read all of the cache and say whether it is well."""
    with open_cache(cache) as opened:
        health = opened.check()
        location = opened.location
    if as_json:
        show_json(health.to_json())
    else:
        click.echo(f"{location}: {plural(health.rows, 'launch')}, {'well' if health.healthy else 'not well'}")
    if not health.healthy:
        lines = [*health.damage, *(f"{run}: {reason}" for run, reason in health.unreadable.items())]
        raise errors.CacheError(
            "\n  ".join([f"{location} has damage", *lines[:20]]),
            "unreadable launches count as never made: save the rest with autobackend cache export",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """All launches of a model, under one name, on a device of a host."""

    model: str
    identity: Identity
    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        """`shape:llama-3.1-8b, 6 of 32 layers`; the model alone where all of it was launched."""
        return ", ".join(filter(None, (self.model, self.identity.layers)))

    @property
    def failures(self) -> int:
        return sum(isinstance(outcome, Failure) for outcome in self.outcomes)

    @property
    def newest(self) -> float:
        """Unix time."""
        return max(outcome.started_at for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """As `autobackend cache list --json` prints it."""
        key = self.identity
        return {
            "model": self.model,
            "architecture": key.architecture,
            "quant": key.quant,
            "device": key.device,
            "host": key.host,
            "fingerprint": key.fingerprint,
            "config": key.config,
            "cut": key.cut,
            "launches": len(self.outcomes),
            "failures": self.failures,
            "candidates": sorted({outcome.candidate.label for outcome in self.outcomes}),
            "newest": self.newest,
        }


def _listed(outcomes: Iterable[Outcome]) -> list[_Line]:
    lines: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        key = outcome.identity
        shown = (outcome.model, key.architecture, key.quant, key.device, key.host, key.fingerprint, key.config, key.cut)
        lines.setdefault(shown, []).append(outcome)
    return [
        _Line(model=launches[0].model, identity=launches[0].identity, outcomes=tuple(launches))
        for launches in lines.values()
    ]


def _given(conditions: dict[str, str | None]) -> dict[str, Any]:
    return {name: value for name, value in conditions.items() if value is not None}


def _versions(outcome: Outcome) -> str:
    """The versions of the engine and of the first package that it requires, not of the dozen of libraries below it."""
    backend = all_backends().get(outcome.candidate.backend)
    names = [name for name in backend.facts.distributions if name in outcome.environment] if backend else []
    return " ".join(f"{name} {outcome.environment[name]}" for name in names[:2]) or "-"


def _result(outcome: Outcome) -> str:
    return ": ".join(filter(None, (outcome.identity.layers, _result_alone(outcome))))


def _result_alone(outcome: Outcome) -> str:
    if isinstance(outcome, Served):
        return whole(outcome)
    if isinstance(outcome, Check):
        return f"checked, not timed: {size(outcome.peak_memory_bytes)}, {output(outcome.agreement)}"
    if not isinstance(outcome, Measurement):
        return f"{outcome.kind} in {outcome.stage}: {outcome.message.strip().partition(chr(10))[0]}"
    cell = shown_cell(c.workload for c in outcome.cells)
    cv = cv_of_one(outcome)
    ttft, tpot = prefill([outcome], cell, cv), decode([outcome], cell, cv)
    parts = [f"{cell.label}: prefill {rate(ttft)}" if ttft else "", f"decode {rate(tpot)}" if tpot else ""]
    return ", ".join(p for p in [*parts, size(outcome.peak_memory_bytes), output(outcome.agreement)] if p)

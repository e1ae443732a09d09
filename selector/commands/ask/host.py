"""`autobackend host`: this machine, as far as it matters to the choice; and the machines that one may plan for."""

from typing import TYPE_CHECKING

import click

from calibration.errors import UsageError
from selector.commands.options import cache_option, examples, json_option
from selector.commands.terminal import note, open_cache, show, show_json

if TYPE_CHECKING:
    from calibration.cache.cache import Cache
    from calibration.probing.probe import Probe
    from selector.host.spec import HostSpec


@click.command(
    epilog=examples(
        "autobackend host",
        "autobackend host --probe",
        "autobackend host --json > host.json",
        "autobackend host --library",
    )
)
@click.option(
    "--probe",
    "take",
    is_flag=True,
    help="First measure how fast it reads memory and multiplies matrices (15 s), and keep that in the cache.",
)
@click.option("--packages", is_flag=True, help="With --json: also which packages of the backends are installed here.")
@click.option("--library", is_flag=True, help="List the public machines instead, for --host host:NAME.")
@cache_option
@json_option
def host(take: bool, packages: bool, library: bool, cache: str | None, as_json: bool) -> None:
    """Show this machine: devices, CPU, cores, memory, and what its memory and arithmetic reach."""
    if packages and not as_json:
        raise UsageError("--packages is for a file that --host reads; found no --json beside it", "add --json")
    if library:
        if take or packages:
            raise UsageError("--library lists other machines; found --probe or --packages beside it", "leave one out")
        _library(as_json=as_json)
        return
    from selector.host.spec import HostSpec
    from selector.machines.host_file import written
    from selector.predict.limits.probe import probe_of
    from selector.screens.host import host_screen
    from selector.screens.text import day

    here = HostSpec.detect()
    with open_cache(cache) as opened:
        taken = _probed(here, opened) if take else None
        counting = probe_of(here.identifier, opened)
    if taken is not None and counting is not None and taken != counting:
        note(f"other programs disturbed it: the probe of {day(counting.taken_at)}, which nothing disturbed, counts")
    shown = taken or counting
    if as_json:
        show_json(written(here, shown, packages=packages))
    else:
        show(host_screen(here, shown))


def _probed(here: "HostSpec", cache: "Cache") -> "Probe":
    """The probe that is taken now, and kept."""
    from selector.predict.limits.take_probe import EXPECTED_SECONDS, take_probe

    note(f"probing {here.device.name}, about {EXPECTED_SECONDS:.0f} s")
    probe = take_probe(here)
    cache.add_probe(probe)
    return probe


def _library(*, as_json: bool) -> None:
    """Print the public machines."""
    from selector.machines.what_if import library
    from selector.screens.what_if import library_screen

    hosts = library()
    if as_json:
        show_json([{**host.to_json(), **host.what_if.to_json()} for host in hosts if host.what_if])
    else:
        show(library_screen(hosts))

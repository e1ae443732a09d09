"""`autobackend host`: this machine, as far as it matters to the choice."""

import click

from selector.commands._options import cache_option, examples, json_option
from selector.commands._terminal import note, open_cache, show, show_json


@click.command(epilog=examples("autobackend host", "autobackend host --probe"))
@click.option(
    "--probe",
    "take",
    is_flag=True,
    help="First measure how fast it reads memory and multiplies matrices (15 s), and keep that in the cache.",
)
@cache_option
@json_option
def host(take: bool, cache: str | None, as_json: bool) -> None:
    """Show this machine: devices, CPU, cores, memory, and what its memory and arithmetic reach."""
    from selector.host.spec import HostSpec
    from selector.predict.probe import probe_of
    from selector.screens.host import host_screen

    here = HostSpec.detect()
    with open_cache(cache) as opened:
        if take:
            from selector.predict.take_probe import EXPECTED_SECONDS, take_probe

            note(f"probing {here.device.name}, about {EXPECTED_SECONDS:.0f} s")
            opened.add_probe(take_probe(here))
        probe = probe_of(here.identifier, opened)
    if as_json:
        show_json({**here.to_json(), "probe": None if probe is None else probe.to_json()})
    else:
        show(host_screen(here, probe))

"""`autobackend host`: this machine, as far as it matters to the choice."""

from typing import TYPE_CHECKING

import click

from selector.commands._options import cache_option, examples, json_option
from selector.commands._terminal import note, open_cache, show, show_json

if TYPE_CHECKING:
    from calibration.cache.cache import Cache
    from calibration.probe import Probe
    from selector.host.spec import HostSpec


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
    from selector.screens.text import day

    here = HostSpec.detect()
    with open_cache(cache) as opened:
        taken = _probed(here, opened) if take else None
        counting = probe_of(here.identifier, opened)
    if taken is not None and counting is not None and taken != counting:
        note(f"other programs disturbed it: the probe of {day(counting.taken_at)}, which nothing disturbed, counts")
    shown = taken or counting
    if as_json:
        show_json({**here.to_json(), "probe": None if shown is None else shown.to_json()})
    else:
        show(host_screen(here, shown))


def _probed(here: "HostSpec", cache: "Cache") -> "Probe":
    """The probe that is taken now, and kept."""
    from selector.predict.take_probe import EXPECTED_SECONDS, take_probe

    note(f"probing {here.device.name}, about {EXPECTED_SECONDS:.0f} s")
    probe = take_probe(here)
    cache.add_probe(probe)
    return probe

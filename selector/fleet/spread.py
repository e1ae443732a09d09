"""calibrate_spread(): one model on one host, its candidates spread over the devices that can be calibrated on at once.

Each device launches its share of the candidates once, on as many layers as it takes. Then one device goes on alone from
what all of them measured: it launches what must run alone, and compares who may be the best.
"""

import json
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.errors import DeviceBusy
from calibration.measurement import Identity, Measurement
from calibration.supervision.device_lock import device_lock
from selector.demand.demand import Demand
from selector.fleet.command import Commands, Ended
from selector.fleet.seats import FLOAT32_BYTES, Seat
from selector.host.spec import HOST_FILE, TOLD_CORES, HostSpec
from selector.machines.host_file import written
from selector.planning.plan import Plan, plan

LOCKS = "AUTOBACKEND_LOCKS"
"""Variable that names the folder of the device locks: each device has one of its own while the host's is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one device launches."""

    seat: Seat
    labels: tuple[str, ...]


def calibrate_spread(
    model: str,
    demand: Demand,
    words: Sequence[str],
    *,
    host: HostSpec,
    seats: Sequence[Seat],
    commands: Commands,
) -> Ended:
    """Run `autobackend calibrate` for a model, on several devices at once where that is right.

    Args:
        words: options beside those of the demand.
        seats: the devices that share neither cores nor bus; none: all runs on one device.

    Returns:
        How the last command ended, which is of all candidates.

    Raises:
        ModelError, UsageError, CacheError: as calibrate.
    """
    began = time.monotonic()
    planned = plan(model, demand, host=host) if seats else None
    if planned and (shares := shares_of(planned, seats)):
        try:
            with device_lock(host.device.name), tempfile.TemporaryDirectory(prefix="autobackend-") as folder:
                _launch(shares, model, planned, words, commands, Path(folder))
        except DeviceBusy as busy:
            return Ended(code=DeviceBusy.exit_code, lines=(f"error: {busy.message}",))
    return commands.run(["calibrate", model, *demand.options(), *_left_of(words, time.monotonic() - began)])


def shares_of(planned: Plan, seats: Sequence[Seat]) -> tuple[Share, ...]:
    """The candidates dealt out, the first of the static order to each device first; fewer than two devices: none.

    Who is converted first runs alone later: a conversion takes all cores and much memory. So do loads, whose client
    needs cores, and what runs on several devices. Of a large model as many devices as the machine's memory holds its
    reference for, since each may have to make it.
    """
    if planned.demand.loads or planned.demand.tensor_parallel > 1:
        return ()
    labels = [spec.label for spec in planned.launch_specs if not spec.variant.prepares]
    held = planned.host.memory_bytes // max(1, FLOAT32_BYTES * planned.spec.parameters)
    count = min(len(seats), len(labels), held)
    if count < 2:
        return ()
    return tuple(Share(seat=seat, labels=tuple(labels[place::count])) for place, seat in enumerate(seats[:count]))


def _launch(
    shares: Sequence[Share],
    model: str,
    planned: Plan,
    words: Sequence[str],
    commands: Commands,
    folder: Path,
) -> None:
    """Each share on its device, all at once; rows go to the cache of the whole host, as of one calibration.

    What a share ends with does not matter: the command that goes on alone meets the same.
    """
    file = folder / "host.json"
    file.write_text(json.dumps(written(planned.host, None, packages=False)), encoding="utf-8")
    once = ["--rounds", "1", "--no-probe", "--calibration", _calibration_id(planned.identity)]

    def launch(place: int, share: Share) -> Ended:
        locks = folder / f"locks-{place}"
        variables = {
            **share.seat.variables,
            HOST_FILE: str(file),
            TOLD_CORES: str(planned.host.cores),
            LOCKS: str(locks),
        }
        options = replace(planned.demand, backends=share.labels).options()
        return commands.run(
            ["calibrate", model, *options, *words, *once],
            variables=variables,
            cpus=share.seat.cpus,
            title=f"device {place}: ",
        )

    with ThreadPoolExecutor(len(shares)) as threads:
        for running in [threads.submit(launch, place, share) for place, share in enumerate(shares)]:
            running.result()


def _calibration_id(identity: Identity) -> str:
    """Of the newest calibration of the model here, with which this one goes on; else a new one."""
    with Cache.open() as cache:
        launches = [
            outcome
            for outcome in cache.find(
                architecture=identity.architecture,
                quant=identity.quant,
                device=identity.device,
                fingerprint=identity.fingerprint,
                cut=None,
            )
            if isinstance(outcome, Measurement) and outcome.identity.host == identity.host
        ]
    newest = max(launches, key=lambda launch: launch.started_at, default=None)
    return newest.calibration_id if newest else uuid.uuid4().hex


def _left_of(words: Sequence[str], spent_s: float) -> list[str]:
    """The words with what is left of the budget, where they have one: at least a second, so that it answers."""
    if "--budget" not in words:
        return list(words)
    at = words.index("--budget") + 1
    return [*words[:at], f"{max(1.0, float(words[at]) - spent_s):g}", *words[at + 1 :]]

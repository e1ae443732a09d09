"""The probe of this machine, which the first calibration on a host takes."""

import time

from calibration.cache.cache import Cache
from calibration.errors import BackendError
from calibration.events import Reporter
from selector.host.spec import HostSpec
from selector.planning.events import CalibrationEvent, ProbeBegan, ProbeEnded, ProbeFailed
from selector.predict.limits.probe import probe_of

LEAST_BUDGETS = 8
"""A budget for fewer probes than so many is left to the candidates."""


def probe_once(
    host: HostSpec, cache: Cache, reporter: Reporter[CalibrationEvent], *, budget_s: float | None = None
) -> float:
    """Take the probe of a host that has none in the cache, and keep it. A machine that cannot be probed is reported.

    Returns:
        The seconds that it took; 0 where there is one, or the budget is too short.

    Raises:
        DeviceBusy: a calibration holds the device, or a server runs on it.
        CacheError: the cache cannot be read or written.
    """
    # The calibration of a host that has its probe need not import what takes one.
    if probe_of(host.identifier, cache) is not None:
        return 0.0
    from selector.predict.limits.take_probe import EXPECTED_SECONDS, take_probe

    if budget_s is not None and budget_s < LEAST_BUDGETS * EXPECTED_SECONDS:
        return 0.0
    began = time.monotonic()
    reporter.report(ProbeBegan(expected_s=EXPECTED_SECONDS))
    try:
        probe = take_probe(host)
    except BackendError as error:
        reporter.report(ProbeFailed(message=error.message))
    else:
        cache.add_probe(probe)
        reporter.report(ProbeEnded(probe=probe))
    return time.monotonic() - began

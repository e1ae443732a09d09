"""lacking(): which backends do not run on this machine, and why they never can."""

from calibration.registry import all_backends
from selector.host.spec import HostSpec
from selector.install.smoke_test import unfit, usable


def lacking(host: HostSpec) -> dict[str, str]:
    """Backend that does not run here with what is installed now: why it cannot, whatever is; empty: it can.

    The libraries of engines are looked at, so it is asked on the machine itself.
    """
    return {
        name: "; ".join(unfit(backend, host)) for name, backend in all_backends().items() if not usable(backend, host)
    }

"""How long each candidate takes for a workload, by the launches of one model on one host."""

from collections.abc import Iterable
from statistics import median
from typing import Final

from calibration.cost import fit, points
from calibration.measurement import Measurement
from calibration.rung import Rung
from calibration.workload import Workload

_ON: Final = " on "
"""Between a candidate and the layers of a launch on a few of them; no label has a space."""


def seconds_by_candidate(launches: Iterable[Measurement], workload: Workload) -> dict[str, float]:
    """Candidate: seconds of the workload, by its launches of the newest versions.

    A launch on a few layers stands under a name of its own, so that only what is alike is compared.
    """
    named: dict[str, list[Measurement]] = {}
    for launch in launches:
        named.setdefault(_name(launch), []).append(launch)
    return {name: seconds for name, of_name in named.items() if (seconds := _seconds(of_name, workload)) is not None}


def candidate_of(name: str) -> str:
    """The candidate of a name that seconds_by_candidate gives.

    >>> candidate_of("openvino:fp16 on 3 layers"), candidate_of("openvino:fp16")
    ('openvino:fp16', 'openvino:fp16')
    """
    return name.partition(_ON)[0]


def _name(launch: Measurement) -> str:
    label, cut = launch.candidate.label, launch.identity.cut
    return f"{label}{_ON}{Rung.parse(cut).layers} layers" if cut else label


def _seconds(launches: list[Measurement], workload: Workload) -> float | None:
    newest = max(launches, key=lambda launch: launch.started_at)
    alike = [launch for launch in launches if launch.environment == newest.environment]
    times = []
    for launch in alike:
        try:
            times.append(fit(points(launch)).e2e_s(workload))
        except ValueError:
            continue  # no cell with a time: an import may hold such a launch
    return median(times) if times else None

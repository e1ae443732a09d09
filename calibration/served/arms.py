"""standings_of(): where the arms of a race stand, by the launches that they left."""

from collections.abc import Collection, Sequence

from calibration.measurement import Served
from calibration.served.place import Serving
from calibration.served.standings import Arm, Standings


def standings_of(
    launches: Sequence[Served], serving: Serving, *, lossy: Collection[str], device_kind: str, sure: float
) -> Standings:
    """Void launches count only where an arm has no others.

    Args:
        launches: under the loads that were asked for, of candidates that can still be started.
        lossy: labels.
    """
    taken: dict[Arm, list[Served]] = {}
    for launch in launches:
        taken.setdefault(arm_of(launch), []).append(launch)
    clean = {arm: [one for one in of_arm if not _is_void(one, serving)] for arm, of_arm in taken.items()}
    return Standings(
        history={
            arm: {one.round: values_of(one, serving) for one in clean[arm] or of_arm} for arm, of_arm in taken.items()
        },
        doubtful=frozenset(arm for arm, of_arm in clean.items() if not of_arm),
        loads=tuple(load.label for load in serving.loads),
        titles={load.label: load.title for load in serving.loads},
        lossy=frozenset(lossy),
        device_kind=device_kind,
        sure=sure,
        full=serving.full,
    )


def arm_of(launch: Served) -> Arm:
    """The candidate as it was served."""
    return Arm(label=launch.candidate.label, threads=launch.threads)


def values_of(launch: Served, serving: Serving) -> dict[str, float]:
    """What it reached of the objective, by the label of each load that was asked for."""
    wanted = [point for point in launch.points if point.load in serving.loads]
    return {point.load.label: serving.value(point, launch.peak_memory_bytes) for point in wanted}


def _is_void(launch: Served, serving: Serving) -> bool:
    return any(point.void for point in launch.points if point.load in serving.loads)

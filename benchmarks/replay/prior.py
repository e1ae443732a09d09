"""The prior of a replayed race: the model of times, given what hosts other than the race's showed on other shapes."""

from functools import cache

from benchmarks.replay.recorded import Recorded
from calibration.race.ladder.beliefs import Beliefs
from calibration.rung import Rung
from selector.predict.beliefs import beliefs_from
from selector.predict.foresight import Foresight
from selector.predict.known.shipped import content, shipped
from selector.predict.known.work import Work
from selector.predict.times.times import Observed, Times, launch_variance, widened


def prior(race: Recorded) -> Beliefs:
    """Beliefs of a race from rows that share neither its host nor its shape; only the variances are those of all."""
    work = Work.of(race.spec)
    known = _known(race.host, work)
    here = next(t.host for t in shipped() if t.host.identifier == race.host)
    rung = Rung(layers=race.spec.layers, of=race.spec.layers)
    return beliefs_from(known, here, work, tuple(race.launches), [rung], race.cells)


@cache
def _known(host: str, work: Work) -> Foresight:
    others = tuple(t for t in shipped() if t.host.identifier != host and t.work != work)
    variances = widened(content()["variances"], len({t.work.fingerprint for t in others}))
    return Foresight(others, Times.given(Observed.of(others), variances), launch_variance(variances))

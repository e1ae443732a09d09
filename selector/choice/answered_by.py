"""Which caches the launches behind a pick were read from."""

from collections.abc import Iterable
from typing import Any

from selector.answer import Source
from selector.choice.picked import Pick
from selector.evidence.provenance import Provenance, key_of
from selector.question import Known, Question


def answered_by(question: Question, known: Known, picked: Pick) -> tuple[Provenance, ...]:
    """The caches that have the launches of the candidate that answers; none where nothing measured answers.

    Raises:
        CacheError: a cache cannot be read.
    """
    host = picked.origin.identity.host if picked.origin else question.identity.host
    keys = [key_of(picked.label, launch) for launch in _launches(known, picked)]
    return known.levels().provenance(keys, host) if keys else ()


def _launches(known: Known, picked: Pick) -> Iterable[Any]:
    label, here = picked.label, known.evidence
    if picked.served:
        served = known.served()
        record = served.measured.get(label) or served.stale.get(label)
        return record.launches if record else ()
    if picked.origin is not None:
        return picked.origin.records[label].launches
    if picked.source is Source.LAYERS:
        return [launch for depth in here.layers.get(label, ()) for launch in depth.record.launches]
    if picked.ranked is None:
        return ()
    of_whole = here.measured.get(label) or here.stale.get(label)
    return of_whole.launches if of_whole else ()

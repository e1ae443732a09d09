"""What the tests of adapting are about: a load, candidates that were measured under it, engines that do not run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from calibration.cache.cache import Cache
from calibration.engine.streams import Ability
from calibration.measurement import Outcome, Served
from calibration.supervision.launch_spec import Subject
from selector.answer import Selection
from selector.demand.demand import Demand
from selector.demand.traffic import Observed
from selector.planning.plan import launch_spec_of
from selector.planning.room import room_for
from selector.serve.adapt.behind import Behind
from selector.serve.adapt.gain import Weighed
from selector.serve.adapt.here import weigh
from selector.serve.keep.watch import Silence
from selector.serve.prepare import Prepared
from tests.selector.answering import HOST, KEY, MODEL, SPEC
from tests.selector.launches import served
from tests.selector.serve.keep.test_gate import Slow
from tests.selector.serve.keep.test_keeper import Scripted

LOAD = "pp64:tg32:c8"


def under_load(candidate: str, tps: float, **how: Any) -> list[Served]:
    """Three launches of a candidate under LOAD, in rounds."""
    return [served(candidate, KEY, HOST, {LOAD: tps}, round_=number, **how) for number in (1, 2, 3)]


def weighed(cache: Cache, outcomes: Iterable[Outcome], **asked: Any) -> Weighed:
    """What selection says with these launches in the cache; for LOAD, if no workload is asked for."""
    cache.add(*outcomes)
    demand = Demand.of(**{"workload": LOAD, **asked})
    [load] = demand.loads
    return weigh(MODEL, demand, load, cache=cache, host=HOST)


def came(requests: int, *, prompt: int = 64, output: int = 32, at_once: int = 8) -> Observed:
    """So many requests, which LOAD stands for."""
    return Observed(
        since=0.0,
        until=600.0,
        requests=requests,
        prompt_tokens={prompt: requests},
        output_tokens={output: requests},
        running_s={0: 10.0, at_once: 590.0},
        candidates={"a:x": requests},
    )


def prepared(selection: Selection, **of_subject: Any) -> Prepared:
    """A selected candidate whose weights are somewhere."""
    fields: dict[str, Any] = {
        "name": MODEL,
        "model_dir": Path("/model"),
        "weights_identity": "w" * 12,
        "identity": KEY,
        "dtype": SPEC.dtype,
        "vocab_size": SPEC.vocab_size,
        "device": "cpu",
        "threads": selection.threads,
        "memory_limit_bytes": 8 << 30,
        "parameters": SPEC.parameters,
    }
    return Prepared(
        selection=selection,
        room=room_for(selection, slots=8, context_tokens=512),
        subject=Subject(**{**fields, **of_subject}),
        spec=launch_spec_of(selection.candidate, HOST, SPEC),
        artifact_dir=None,
    )


def behind(*abilities: Ability, serving: Scripted | None = None, text: bool = True, chats: bool = True) -> Behind:
    """An engine that can be asked so much."""
    upstream = Slow()
    upstream.abilities = frozenset(abilities)
    return Behind(
        upstream=upstream,
        serving=serving or Scripted([None]),
        silence=Silence(),
        abilities=frozenset(abilities),
        takes_text=text,
        takes_chats=chats,
        batching=lambda: "continuous",
    )

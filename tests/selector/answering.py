"""What the tests of select() ask, and of which model and host."""

from typing import Any

from calibration.cache.cache import Cache
from calibration.measurement import Outcome
from calibration.registry import all_backends
from selector.answer import Selection
from selector.demand import Demand
from selector.identity import environment_of
from selector.rules.judge import judge
from selector.selection import choose
from tests.selector.launches import (
    model_and_host,
)

MODEL = "shape:smollm2-135m"
SPEC, HOST, KEY = model_and_host(MODEL)
CT2, SDPA, EAGER = "ctranslate2:float32", "transformers:sdpa", "transformers:eager"


def with_versions(**versions: str) -> dict[str, str]:
    """The environment of transformers on HOST with other versions."""
    return {**environment_of(all_backends()["transformers"], HOST), **versions}


def labels(selection: Selection) -> list[str]:
    return [ranked.candidate.label for ranked in selection.ranking]


def answer(cache: Cache, *outcomes: Outcome, **asked: Any) -> Selection:
    cache.add(*outcomes)
    return choose(MODEL, cache=cache, host=HOST, **asked)


def all_labels() -> list[str]:
    return [v.candidate.label for v in judge(SPEC, HOST, Demand()) if v.legal and not v.left_out]

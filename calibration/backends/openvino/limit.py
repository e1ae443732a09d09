"""A limit of OpenVINO: what a model needs that a graph cannot have, told from its config, with its source."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from calibration.backend import Model
from calibration.config_json import ConfigJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A property of a model that a graph cannot have, or not with paged attention."""

    needs: str
    found: Callable[[Model, ConfigJson], str]
    """What the model has instead; empty: it is within the limit."""
    source: str


def beyond(model: Model, limits: Iterable[Limit]) -> list[str]:
    """`needs X; found Y`, once for each limit that a model is beyond."""
    config = ConfigJson.read(model.folder).language_model()
    founds = [(limit, limit.found(model, config)) for limit in limits]
    return [f"needs {limit.needs}; found {found}" for limit, found in founds if found]

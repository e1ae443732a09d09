"""What the tests of select() ask, and of which model and host."""

from dataclasses import replace
from typing import Any

import click
from click.testing import CliRunner

from calibration.cache.cache import Cache
from calibration.measurement import Outcome
from calibration.registry import all_backends
from selector.answer import Selection
from selector.commands.options import demand_options
from selector.demand.demand import Demand
from selector.evidence.identity import environment_of, identity
from selector.host.spec import Device, HostSpec
from selector.rules.judge import judge
from selector.selection import choose
from tests.selector.launches import cpu_host, model_and_host

MODEL = "shape:smollm2-135m"
SPEC, HOST, KEY = model_and_host(MODEL)
ARM = replace(
    cpu_host("0" * 12),
    cpu_name="neoverse_v1",
    cpu_model="ARM",
    cpu_features=frozenset({"neon"}),
    devices=(Device(kind="cpu", name="ARM neoverse_v1, 2 cores", memory_bytes=24 << 30, free_bytes=20 << 30),),
)
"""A host of a family that nothing is shipped of: all that is known of it, its own launches tell."""
ARM_KEY = identity(SPEC, ARM)
CT2, SDPA, EAGER = "ctranslate2:float32", "transformers:sdpa", "transformers:eager"
FIRST = "transformers:sdpa-fp32"
"""The first variant of transformers in the static order of HOST, which has no bf16."""


def with_versions(**versions: str) -> dict[str, str]:
    """The environment of transformers on HOST with other versions."""
    return {**environment_of(all_backends()["transformers"], HOST), **versions}


def labels(selection: Selection) -> list[str]:
    return [ranked.candidate.label for ranked in selection.ranking]


def answer(cache: Cache, *outcomes: Outcome, host: HostSpec = HOST, **asked: Any) -> Selection:
    cache.add(*outcomes)
    return choose(MODEL, cache=cache, host=host, **asked)


def all_labels(host: HostSpec = HOST) -> list[str]:
    return [v.candidate.label for v in judge(SPEC, host, Demand()) if v.legal and not v.left_out]


def demanded(*words: str) -> Demand:
    """What a command hears whose user types these options."""
    heard: list[Demand] = []

    @click.command()
    @demand_options
    def program(demand: Demand) -> None:
        heard.append(demand)

    assert CliRunner().invoke(program, words).exit_code == 0
    return heard[0]

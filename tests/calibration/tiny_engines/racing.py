"""Entries and a subject for races of the scripted engine; also run as a program, to be killed: racing.py FOLDER."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.backend import Variant
from calibration.cache.cache import Cache
from calibration.conversion.convert import Original
from calibration.conversion.store import ArtifactStore
from calibration.events import Event, Reporter, Silent
from calibration.launch.checker import no_reference
from calibration.launch.reference import reference_of
from calibration.launch.workshop import Workshop
from calibration.measurement import Candidate, Identity
from calibration.race.bounds import Bounds
from calibration.race.ladder.beliefs import Beliefs
from calibration.race.ladder.climb import climb
from calibration.race.ladder.depth import Depth
from calibration.race.rounds.runner import calibrate
from calibration.race.tally import Tally
from calibration.rung import Rung
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.workload import Workload

CELLS = (Workload(prompt_tokens=4, output_tokens=4), Workload(prompt_tokens=12, output_tokens=4, batch=2))
WHOLE = Rung(layers=8, of=8)
FEW = Rung(layers=2, of=8)
LIMITS = Limits(prepare_s=20, load_s=3, sample_s=3)


def entry(
    name: str,
    *,
    python: str = sys.executable,
    prepares: bool = False,
    lossy: bool = False,
    precision: str = "model",
    **options: Any,
) -> LaunchSpec:
    """A candidate of the scripted engine with these options."""
    return LaunchSpec(
        candidate=Candidate(backend="scripted", variant=name),
        variant=Variant(name=name, options=options, precision=precision, prepares=prepares, lossy=lossy),
        python=Path(python),
        environment={"scripted": "1"},
        source=str(Path(__file__).parent / "scripted.py"),
    )


def subject(folder: Path, config: str = "", cut: str = "") -> Subject:
    """A model of the scripted engine: there is none, it counts. Models of all configs have the same shape."""
    return Subject(
        name="counting",
        model_dir=folder,
        weights_identity="none",
        identity=Identity(
            architecture="CountingForCausalLM",
            quant="none",
            device="test",
            fingerprint="f",
            dtype="float32",
            device_count=1,
            host="h",
            config=config,
            cut=cut,
        ),
        dtype="float32",
        vocab_size=64,
        device="cpu",
        threads=1,
        memory_limit_bytes=400 << 20,
    )


def race(
    folder: Path,
    *entries: LaunchSpec,
    checked: bool = True,
    parameters: int = 0,
    dtype: str = "float32",
    judge: LaunchSpec | None = None,
    cores: int = 1,
    memory_bytes: int = 400 << 20,
    reporter: Reporter[Event] | None = None,
    limits: Limits = LIMITS,
    again: bool = False,
    config: str = "",
    cut: str = "",
    **bounds: Any,
) -> Tally:
    """Calibrate in `folder`, which keeps the cache and the artifacts.

    Args:
        judge: makes the reference, instead of an engine without a fault.
    """
    (folder / "model").mkdir(exist_ok=True)
    with Cache.open(folder / "cache.db") as cache:
        return calibrate(
            entries,
            replace(
                subject(folder / "model", config, cut),
                parameters=parameters,
                dtype=dtype,
                threads=cores,
                memory_limit_bytes=memory_bytes,
            ),
            CELLS,
            workshop_in(folder, cache, reporter, limits),
            reference=reference_of(judge or entry("reference")) if checked else no_reference,
            bounds=Bounds(**bounds),
            again=again,
        )


def workshop_in(
    folder: Path, cache: Cache, reporter: Reporter[Event] | None = None, limits: Limits = LIMITS
) -> Workshop:
    """What a race in `folder` works with."""
    store = ArtifactStore(folder / "artifacts")
    return Workshop(cache=cache, store=store, reporter=reporter or Silent(), limits=limits)


def depth(folder: Path, rung: Rung, *, config: str = "", checked: bool = True, **changes: Any) -> Depth:
    """A rung of the scripted engine's model, whose weights are nothing."""
    whole = subject(folder, config)
    own = replace(whole, identity=replace(whole.identity, cut=rung.cut), weights_identity=rung.cut or "none")
    settings: dict[str, Any] = {
        "rung": rung,
        "identity": own.identity,
        "original": Original.of(own),
        "subject": lambda: own,
        "memory_bytes": 400 << 20,
        "reference": reference_of(entry("reference")) if checked else no_reference,
    }
    return Depth(**(settings | changes))


def ascend(
    folder: Path,
    *entries: LaunchSpec,
    rungs: Sequence[Rung] = (WHOLE,),
    depths: Mapping[Rung, Mapping[str, Any]] | None = None,
    checked: bool = True,
    reporter: Reporter[Event] | None = None,
    beliefs: Beliefs | None = None,
    again: bool = False,
    config: str = "",
    **bounds: Any,
) -> Tally:
    """Calibrate on a ladder in `folder`, which keeps the cache and the artifacts.

    Args:
        depths: rung: fields of its Depth.
    """
    (folder / "model").mkdir(exist_ok=True)
    changes = depths or {}
    with Cache.open(folder / "cache.db") as cache:
        return climb(
            entries,
            [depth(folder / "model", r, config=config, checked=checked, **changes.get(r, {})) for r in rungs],
            CELLS,
            CELLS,
            workshop_in(folder, cache, reporter),
            beliefs=beliefs,
            bounds=Bounds(**bounds),
            again=again,
        )


if __name__ == "__main__":
    race(Path(sys.argv[1]), entry("a", step_s=0.004), entry("b", step_s=0.006), entry("c", step_s=0.005))

"""Entries and a subject for races of the scripted engine; also run as a program, to be killed: racing.py FOLDER."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.backend import Variant
from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import Event, Reporter, Silent
from calibration.launch.checker import no_reference
from calibration.launch.reference import reference_of
from calibration.measurement import Candidate, Identity
from calibration.race.runner import Tally, calibrate
from calibration.race.state import Bounds
from calibration.supervision.launch_spec import LaunchSpec, Limits, Subject
from calibration.workload import Workload

CELLS = (Workload(prompt_tokens=4, output_tokens=4), Workload(prompt_tokens=12, output_tokens=4, batch=2))
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
            cache,
            ArtifactStore(folder / "artifacts"),
            reporter or Silent(),
            reference=reference_of(judge or entry("reference")) if checked else no_reference,
            bounds=Bounds(**bounds),
            again=again,
            limits=limits,
        )


if __name__ == "__main__":
    race(Path(sys.argv[1]), entry("a", step_s=0.004), entry("b", step_s=0.006), entry("c", step_s=0.005))

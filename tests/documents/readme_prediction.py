"""The README's predicted answer: what `select` says on its machine with the engines of `make install`, and no cache."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from calibration.cache.cache import Cache
from selector.host.spec import Device, HostSpec, Installation
from selector.screens.select import why
from selector.selection import choose

ROOT = Path(__file__).resolve().parents[2]
HOST, MODEL = "ac3e84e793a4", "shape:llama-3.1-8b"
CONVERTERS = {"gguf": "0.17.1", "numpy": "2.4.6", "sentencepiece": "0.2.1", "nncf": "3.0.0"}
"""What converts models there beside the engines: results/ keeps the versions that change the speed alone."""
ROWS = 5


def prediction_screen() -> str:
    """The first rows of the ranking, what the answer is expected to lose, and the warning."""
    with TemporaryDirectory() as folder, Cache.open(Path(folder) / "cache.db") as cache:
        selection = choose(MODEL, allow_lossy=True, cache=cache, host=readme_host())
        lines = why(selection)
    assert selection.prediction is not None
    end = 2 + len(selection.prediction.predicted)
    shown = [*lines[: 2 + ROWS], "  ...", lines[end], "  ..."]
    command = f"$ autobackend select {MODEL} --allow-lossy --why"
    return "\n".join(["```", command, *shown, *(f"warning: {w}" for w in selection.warnings), "```", ""])


def readme_host() -> HostSpec:
    """The machine as results/ describes it, with nine tenths of its memory free."""
    content = json.loads((ROOT / "results" / "hosts" / f"{HOST}.json").read_text())
    host, device = content["host"], content["host"]["devices"][0]
    memory = int(device["memory_bytes"])
    return HostSpec(
        identifier="0" * 12,
        cpu_name=host["cpu_name"],
        cpu_model=host["cpu_model"],
        cpu_features=frozenset(host["cpu_features"]),
        cores=host["cores"],
        memory_bytes=host["memory_bytes"],
        devices=(Device(kind="cpu", name=device["name"], memory_bytes=memory, free_bytes=memory * 9 // 10),),
        installations={
            name: Installation(
                python=Path("/usr/bin/python3.11"),
                versions={} if name == "vllm" else {**versions, **CONVERTERS},
                site_packages=(),
            )
            for name, versions in content["environments"].items()
        },
    )

"""`autobackend artifacts`: what is listed, and what is pruned."""

import json
import re
from pathlib import Path

from calibration.conversion.artifact import Watched
from calibration.conversion.store import ArtifactStore
from tests.selector.commands.calling import MODEL, run


def test_artifacts(tmp_path: Path) -> None:
    given = {"AUTOBACKEND_ARTIFACTS": str(tmp_path)}
    empty = run("artifacts", "list", **given)
    assert (empty.stdout, empty.stderr) == ("", f"no artifacts in {tmp_path}\n")
    key = {"kind": "converted", "model": MODEL, "backend": "ctranslate2", "variant": "float32"}

    def build(folder: Path) -> Watched:
        (folder / "x").write_text("1" * 1000)
        return Watched(peak_memory_bytes=5 << 29)

    ArtifactStore(tmp_path).make(key, build)
    lines = run("artifacts", "list", **given).stdout.splitlines()
    assert lines[0].split() == ["kind", "model", "backend", "size", "made", "in", "memory", "made"]
    assert lines[1].split()[:3] == ["converted", MODEL, "ctranslate2:float32"]
    assert " 2.5 GiB  just now" in lines[1]
    (told,) = json.loads(run("artifacts", "list", "--json", **given).stdout)
    assert (told["key"], told["peak_memory_bytes"]) == (key, 5 << 29)
    assert run("artifacts", "prune", "--kind", "checkpoint", **given).stdout == "deleted 0 artifacts, 0 MiB\n"
    ArtifactStore(tmp_path).make({"kind": "cut", "model": MODEL, "cut": "3/30"}, build)
    assert (
        run("artifacts", "list", **given).stdout.splitlines()[1].startswith(f"cut        {MODEL}, 3 of 30 layers  -  ")
    )
    assert run("artifacts", "prune", "--kind", "cut", **given).stdout.startswith("deleted 1 artifact, ")
    assert run("artifacts", "prune", **given).stdout.startswith("deleted 1 artifact, ")
    assert ArtifactStore(tmp_path).list() == []


def test_artifacts_of_one_model_or_of_models_that_are_gone_are_pruned_alone(tmp_path: Path) -> None:
    given = {"AUTOBACKEND_ARTIFACTS": str(tmp_path / "store")}
    store = ArtifactStore(tmp_path / "store")
    there, hub = str(tmp_path), "owner/name"
    for model in (there, str(tmp_path / "gone"), "shape:no-such-shape", MODEL, hub, "./relative"):
        store.make({"kind": "converted", "model": model}, lambda folder: (folder / "x").write_bytes(bytes(1 << 20)))
    store.make({"kind": "checkpoint", "model": MODEL}, lambda folder: None)
    (store.root / "converted-0.part-1").mkdir()
    said = run("artifacts", "list", **given).stderr.splitlines()
    assert re.sub(r"[\d.]+ GiB free", "N GiB free", said[0]) == (
        f"7 artifacts, 6 MiB (0 MiB checkpoint, 6 MiB converted) in {store.root}; N GiB free"
    )
    assert said[1] == "unfinished: 1 artifact, 0 MiB; what killed makers left goes with the next prune"
    assert run("artifacts", "prune", "--gone", **given).stdout == "deleted 2 artifacts, 2 MiB\n"
    assert store.unfinished() == []
    assert run("artifacts", "prune", "--model", MODEL, **given).stdout == "deleted 2 artifacts, 1 MiB\n"
    assert {a.key["model"] for a in store.list()} == {there, hub, "./relative"}

"""What a conversion holds in memory: estimated before it begins, not begun where it is too much, and kept when made."""

from pathlib import Path

import pytest

from calibration.backend import PrepareMemory, PrepareTime, Variant
from calibration.conversion.artifact import Artifact, Watched
from calibration.conversion.convert import Original, too_large
from calibration.conversion.estimate import Estimate, estimate
from calibration.conversion.store import ArtifactStore
from calibration.events import ConversionBegan, Event
from calibration.measurement import Failure, FailureKind
from calibration.supervision.replies import Reply
from calibration.supervision.supervisor import Worker
from tests.calibration.conversion.test_side_by_side import EACH, converted, measured
from tests.calibration.tiny_engines.racing import entry, race

MIB, GIB = 1 << 20, 1 << 30
MEMORY = PrepareMemory(
    start_bytes=GIB, per_layer_bytes=5 * MIB, per_parameter=4.0, per_embedding=6.0, per_expert_parameter=2.0
)


def expected(
    variant: Variant,
    parameters: int,
    *known: Artifact,
    embeddings: int = 0,
    expert_parameters: int = 0,
    layers: int = 0,
) -> Estimate:
    return estimate(
        *("ours", variant),
        parameters=parameters,
        dtype="bfloat16",
        time=PrepareTime(s_per_gib=15.0),
        known=known,
        memory=MEMORY,
        embeddings=embeddings,
        expert_parameters=expert_parameters,
        layers=layers,
    )


def made(variant: str, said: int | None, peak: int | None) -> Artifact:
    key = {"kind": "converted", "backend": "ours", "variant": variant}
    return Artifact(
        path=Path("content"),
        key=key,
        bytes=1,
        seconds=9.0,
        created_at=0.0,
        peak_memory_bytes=peak,
        expected_memory_bytes=said,
    )


FP32 = Variant(name="fp32", precision="fp32", prepares=True)


def test_the_facts_say_it_by_parameters_embeddings_and_layers() -> None:
    assert expected(FP32, 8 * GIB, embeddings=GIB).memory_bytes == GIB + 4 * 8 * GIB + 6 * GIB
    assert expected(FP32, 8 * GIB, expert_parameters=5 * GIB).memory_bytes == GIB + 4 * 8 * GIB + 10 * GIB
    assert expected(FP32, 8 * GIB, layers=32).memory_bytes == GIB + 4 * 8 * GIB + 160 * MIB
    assert expected(FP32, 0, layers=32).memory_bytes == 0


def test_what_the_variant_held_before_corrects_it_and_what_others_held_does_not() -> None:
    # 1 GiB of parameters is 4 GiB beyond the start.
    by_facts = expected(FP32, GIB)
    assert (by_facts.memory_bytes, by_facts.memory_by_facts_bytes) == (5 * GIB, 5 * GIB)
    assert expected(FP32, GIB, made("int8", 5 * GIB, 20 * GIB)).memory_bytes == 5 * GIB
    assert expected(FP32, GIB, made("fp32", 5 * GIB, None), made("fp32", None, 9 * GIB)).memory_bytes == 5 * GIB
    # It held twice what was said beyond the start; the facts weigh as much as a sixteenth of that.
    corrected = expected(FP32, GIB, made("fp32", 5 * GIB, 9 * GIB))
    assert corrected.memory_bytes == pytest.approx(
        GIB + 4 * GIB * (256 * MIB + 8 * GIB) / (256 * MIB + 4 * GIB), abs=MIB
    )
    assert corrected.memory_by_facts_bytes == 5 * GIB
    # A tiny model, which held hardly more than the start, says nothing of a large one.
    assert expected(FP32, 8 * GIB, made("fp32", GIB + MIB, GIB)).memory_bytes == pytest.approx(33 * GIB, rel=0.01)


@pytest.mark.parametrize(
    ("needed", "there", "reason"),
    [
        (62 * GIB, 23 * GIB, "conversion needs about 62 GiB of memory; 23 GiB are there"),
        (3 * GIB, 5 * GIB // 2, "conversion needs about 3.0 GiB of memory; 2.5 GiB are there"),
        (3 * GIB, 3 * GIB, ""),
    ],
)
def test_the_reason_says_needed_and_there(needed: int, there: int, reason: str) -> None:
    assert Estimate(seconds=9.0, bytes=1, scratch_bytes=0, memory_bytes=needed).too_large_for(there) == reason


class Began:
    """A reporter that remembers which conversions began."""

    def __init__(self) -> None:
        self.candidates: list[str] = []

    def report(self, event: Event, /) -> None:
        if isinstance(event, ConversionBegan):
            self.candidates.append(event.candidate)


def test_one_that_will_not_fit_is_not_begun_and_is_a_failure_that_says_why(tmp_path: Path) -> None:
    began = Began()
    race(tmp_path, entry("a", prepares=True), parameters=1 << 20, memory_bytes=2 * GIB, rounds=1, checked=False)
    tally = race(
        *(tmp_path, entry("a", prepares=True), entry("b", prepares=True), entry("c")),
        parameters=1 << 20,
        memory_bytes=EACH - 1,
        rounds=1,
        checked=False,
        reporter=began,
    )
    [failure] = [o for o in tally.outcomes if isinstance(o, Failure)]
    assert (failure.candidate.variant, failure.kind, failure.stage) == ("b", FailureKind.OUT_OF_MEMORY, "prepare")
    assert failure.message == "conversion needs about 1.0 GiB of memory; 1.0 GiB are there (--again tries anew)"
    assert began.candidates == []
    # What is converted already needs no memory for it.
    assert measured(tally) == ["a", "c"]


def test_nor_is_it_begun_beside_another(tmp_path: Path) -> None:
    tally, recorder = converted(tmp_path, "a", "b", memory_bytes=EACH - 1)
    assert recorder.alongside == []
    assert measured(tally) == []


def test_too_large_names_every_candidate_that_lacks_it(tmp_path: Path) -> None:
    original = Original(name="m", weights="w", parameters=1 << 20, dtype="float32")
    candidates = [entry("a", prepares=True), entry("b", prepares=True), entry("c")]
    reason = "conversion needs about 1.0 GiB of memory; 1.0 GiB are there"
    store = ArtifactStore(tmp_path)
    assert too_large(candidates, original, store, EACH - 1) == {"scripted:a": reason, "scripted:b": reason}
    assert too_large(candidates, original, store, EACH) == {}


def test_the_peak_is_kept_with_the_artifact(tmp_path: Path) -> None:
    race(tmp_path, entry("a", prepares=True), rounds=1, checked=False)
    [artifact] = ArtifactStore(tmp_path / "artifacts").list()
    # An interpreter that imported a file and wrote a word.
    assert artifact.peak_memory_bytes is not None and 5 * MIB < artifact.peak_memory_bytes < 100 * MIB
    assert artifact.to_json()["peak_memory_bytes"] == artifact.peak_memory_bytes


def test_a_build_that_nobody_watched_has_no_peak(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert store.make({"kind": "a"}, lambda folder: (folder / "x").write_text("ten bytes!")).peak_memory_bytes is None
    assert store.make({"kind": "b"}, lambda _: Watched(peak_memory_bytes=7)).peak_memory_bytes == 7


def converting_worker(tmp_path: Path, how: str, limit: int) -> tuple[Worker, object]:
    """A worker that converted with the scripted engine, and its answer."""
    from calibration.backend import Job
    from calibration.worker.opening import Opening

    spec = entry("a", prepares=True, prepare=how)
    job = Job(
        model_dir=tmp_path,
        variant=spec.variant,
        artifact_dir=None,
        dtype="float32",
        vocab_size=64,
        device="cpu",
        threads=1,
        max_context_tokens=8,
        max_batch=1,
    )
    with Worker(spec.python, log=tmp_path / "log", memory_limit_bytes=limit) as worker:
        worker.ask("open", timeout_s=20, **Opening(backend="scripted", job=job, source=spec.source).request())
        destination = tmp_path / "made"
        destination.mkdir()
        return worker, worker.ask("prepare", timeout_s=20, destination=str(destination))


def test_a_file_that_a_conversion_maps_is_no_memory_of_its_own(tmp_path: Path) -> None:
    worker, answer = converting_worker(tmp_path, "map", limit=150 * MIB)
    assert isinstance(answer, Reply)
    assert worker.peak_memory_bytes > 200 * MIB
    assert worker.peak_unmapped_bytes < 100 * MIB


def test_what_a_forked_child_shares_with_a_conversion_counts_once(tmp_path: Path) -> None:
    worker, answer = converting_worker(tmp_path, "fork", limit=GIB)
    assert isinstance(answer, Reply)
    assert 200 * MIB < worker.peak_unmapped_bytes < 300 * MIB

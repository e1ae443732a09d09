"""Several conversions at once: which ones, what becomes of one that fails, and that nothing of them is left."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from calibration.conversion.store import ArtifactStore
from calibration.events import ConversionBegan, ConvertedAlongside, Event
from calibration.facts.conversions import PrepareMemory, PrepareTime
from calibration.measurement import Failure, FailureKind, Measurement
from calibration.race.tally import Tally
from tests.calibration.tiny_engines.racing import entry, race

EACH = PrepareMemory().start_bytes + int(PrepareMemory().per_parameter) * (1 << 20)
"""Bytes that one conversion of the model of `converted` is taken to need."""


class Recorder:
    """A reporter that remembers who was converted alongside, and may end a calibration as Ctrl-C does."""

    def __init__(self, *, ctrl_c_at: type[Event] | None = None) -> None:
        self.alongside: list[tuple[str, list[str]]] = []
        self._ctrl_c_at = ctrl_c_at

    def report(self, event: Event, /) -> None:
        if isinstance(event, ConvertedAlongside):
            self.alongside.append((event.candidate, list(event.others)))
        if type(event) is self._ctrl_c_at:
            raise KeyboardInterrupt


def converted(folder: Path, *names: str, cores: int = 2, start_s: float = 5.0, **more: Any) -> tuple[Tally, Recorder]:
    """A race of candidates that are converted; a name may have an option of `prepare` behind a dash.

    Args:
        start_s: what each conversion is taken to last, and more.
    """
    folder.mkdir(exist_ok=True)
    recorder = Recorder()
    entries = [
        replace(entry(name, prepares=True, prepare=name.partition("-")[2]), prepare_time=PrepareTime(start_s=start_s))
        for name in names
    ]
    settings = {"memory_bytes": 8 * EACH, "rounds": 1, "checked": False, **more}
    return race(folder, *entries, cores=cores, parameters=1 << 20, reporter=recorder, **settings), recorder


def measured(tally: Tally) -> list[str]:
    return [o.candidate.variant for o in tally.outcomes if isinstance(o, Measurement)]


def test_the_next_one_is_converted_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    monkeypatch.setenv("SCRIPTED_MEETING", str(meeting))
    tally, recorder = converted(tmp_path, "a-meet", "b-meet", "c")
    assert recorder.alongside == [("scripted:a-meet", ["scripted:b-meet"])]
    assert measured(tally) == ["a-meet", "b-meet", "c"]


@pytest.mark.parametrize(
    ("cores", "memory_bytes", "alongside"),
    [
        (1, 8 * EACH, []),
        (3, 8 * EACH, [("scripted:a", ["scripted:b", "scripted:c"])]),
        (4, 2 * EACH, [("scripted:a", ["scripted:b"]), ("scripted:c", ["scripted:d"])]),
        (4, 2 * EACH - 1, []),
    ],
)
def test_as_many_as_cores_and_memory_hold(
    cores: int, memory_bytes: int, alongside: list[tuple[str, list[str]]], tmp_path: Path
) -> None:
    tally, recorder = converted(tmp_path, "a", "b", "c", "d", cores=cores, memory_bytes=memory_bytes)
    assert recorder.alongside == alongside
    assert measured(tally) == ["a", "b", "c", "d"]


def test_what_the_disk_does_not_hold_beside_the_first_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # float32: 4 MiB of each are written.
    monkeypatch.setattr(ArtifactStore, "free_bytes", lambda _: 7 << 20)
    _, recorder = converted(tmp_path, "a", "b")
    assert recorder.alongside == []


def test_a_failure_alongside_is_told_by_its_own_launch(tmp_path: Path) -> None:
    tally, recorder = converted(tmp_path, "a", "b-refuse", "c")
    assert recorder.alongside == [("scripted:a", ["scripted:b-refuse"]), ("scripted:b-refuse", ["scripted:c"])]
    [failure] = [o for o in tally.outcomes if isinstance(o, Failure)]
    assert (failure.candidate.variant, failure.kind, failure.stage) == ("b-refuse", FailureKind.REFUSED, "prepare")
    assert failure.message == "ValueError: cannot load this architecture"
    assert measured(tally) == ["a", "c"]


def test_a_failure_of_the_one_that_is_due_lets_the_other_end(tmp_path: Path) -> None:
    tally, recorder = converted(tmp_path, "a-refuse", "b-slow")
    assert recorder.alongside == [("scripted:a-refuse", ["scripted:b-slow"])]
    assert measured(tally) == ["b-slow"]


def test_a_budget_converts_alongside_only_what_it_will_probably_reach(tmp_path: Path) -> None:
    # A conversion is taken to last five seconds and more.
    _, near = converted(tmp_path / "near", "a", "b", budget_s=8.0)
    _, far = converted(tmp_path / "far", "a", "b", budget_s=60.0)
    assert near.alongside == []
    assert far.alongside == [("scripted:a", ["scripted:b"])]


def test_the_end_of_the_budget_ends_them_all(tmp_path: Path) -> None:
    tally, recorder = converted(tmp_path, "a", "b-hang", start_s=0.5, budget_s=2.0)
    assert recorder.alongside == [("scripted:a", ["scripted:b-hang"])]
    assert (tally.ended, measured(tally)) == ("budget", [])
    assert not list((tmp_path / "artifacts").glob("*.part-*"))


def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    entries = entry("a", prepares=True), entry("b", prepares=True, prepare="hang")
    with pytest.raises(KeyboardInterrupt):
        race(
            tmp_path, *entries, cores=2, memory_bytes=8 * EACH, rounds=1, checked=False,
            parameters=1 << 20, reporter=Recorder(ctrl_c_at=ConversionBegan),
        )  # fmt: skip
    assert [p for p in psutil.Process().children(recursive=True) if "worker/main.py" in " ".join(p.cmdline())] == []
    assert not list((tmp_path / "artifacts").glob("*.part-*"))

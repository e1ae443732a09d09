"""Here: what a running server's cache, memory and store say of another candidate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.convert import Original, conversion
from calibration.conversion.store import ArtifactStore
from calibration.engine.streams import Ability
from calibration.load.load import Load
from selector.answer import Selection
from selector.host.spec import HostSpec
from selector.planning.plan import launch_spec_of
from selector.serve.adapt.behind import Behind
from selector.serve.adapt.decide import NoRoom, NotMade, Ready, Unfit
from selector.serve.adapt.gain import Better, gain_of
from selector.serve.adapt.here import OTHER_FILES, Here, Options
from selector.serve.prepare import Prepared
from tests.selector.answering import CT2, HOST, MODEL, SDPA, SPEC
from tests.selector.serve.adapt.making import LOAD, behind, prepared, under_load, weighed

Make = Callable[..., Here]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """An empty one, which is the user's."""
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))
    return ArtifactStore()


@pytest.fixture
def make(cache: Cache) -> Make:
    """A server of one candidate, while another one is three times as fast."""

    def here(
        running: str = CT2,
        better: str = SDPA,
        *,
        able: Behind | None = None,
        options: Options | None = None,
        **more: Any,
    ) -> Here:
        cache.add(*under_load(better, 240.0), *under_load(running, 80.0))
        selection = weighed(cache, [], backends=[running]).selection
        fields: dict[str, Any] = {
            "prepared": prepared(replace(selection, demand=replace(selection.demand, backends=()))),
            "behind": behind(Ability.SEED),
            "asked_for": frozenset(),
            "another": lambda _: able or behind(Ability.SEED),
            "host": lambda: HOST,
        }
        return Here(options=options or Options(cache=cache.location), **{**fields, **more})

    return here


def best(here: Here) -> Selection:
    """What it would switch to."""
    found = here.weigh(Load.parse(LOAD))
    assert isinstance(gain_of(found, here.prepared.spec.label), Better)
    return found.selection


def with_free(free_bytes: int) -> HostSpec:
    [device] = HOST.devices
    return replace(HOST, devices=(replace(device, free_bytes=free_bytes),))


def test_what_is_better_can_be_started_beside_with_as_much_room(make: Make) -> None:
    here = make()
    ready = here.make_ready(best(here))
    assert isinstance(ready, Ready)
    made = ready.prepared
    assert (made.spec.label, made.artifact_dir, ready.beside) == (SDPA, None, True)
    assert (made.room.slots, made.room.context_tokens) == (8, 512)
    assert (made.subject.model_dir, made.subject.threads) == (Path("/model"), 2)
    assert made.subject.memory_limit_bytes == int(0.95 * HOST.device.free_bytes)


def test_what_the_user_asked_for_holds_for_the_new_engine_too(make: Make, cache: Cache) -> None:
    here = make(options=Options(cache=cache.location, slots=3, threads=1))
    ready = here.make_ready(best(here))
    assert isinstance(ready, Ready)
    assert (ready.prepared.room.slots, ready.prepared.subject.threads) == (3, 1)


def test_it_never_has_less_room_than_the_other_one(make: Make) -> None:
    here = make()
    larger = replace(here, prepared=replace(here.prepared, room=replace(here.prepared.room, slots=12)))
    ready = larger.make_ready(best(larger))
    assert isinstance(ready, Ready)
    assert ready.prepared.room.slots == 12


def test_without_memory_for_both_it_begins_afterwards(make: Make) -> None:
    here = make()
    selection = best(here)
    needed = here.make_ready(selection)
    assert isinstance(needed, Ready)
    tight = replace(here, host=lambda: with_free(needed.prepared.room.needed_bytes))
    ready = tight.make_ready(selection)
    assert isinstance(ready, Ready)
    assert not ready.beside, "a fifth of what is free is left to others"


def test_what_does_not_fit_at_all_is_said(make: Make, cache: Cache) -> None:
    here = make(options=Options(cache=cache.location, slots=100_000))
    found = here.make_ready(best(here))
    assert isinstance(found, NoRoom)
    assert found.why.startswith(f"{SDPA} has no room for 100000 requests of 512 tokens at once")


def test_on_an_accelerator_it_begins_afterwards_whatever_is_free(make: Make) -> None:
    here = make()
    selection = best(here)
    gpu = replace(HOST, devices=(replace(HOST.device, kind="cuda", name="A GPU"),))
    ready = replace(here, host=lambda: gpu).make_ready(selection)
    assert isinstance(ready, Ready)
    assert not ready.beside


def test_nothing_is_converted_behind_a_server(make: Make, cache: Cache, store: ArtifactStore) -> None:
    here = make(SDPA, CT2)
    selection = best(here)
    assert selection.candidate.label == CT2
    assert here.make_ready(selection) == NotMade(
        best=CT2, command=f"autobackend serve {MODEL} --workload {LOAD} --backends {CT2}"
    )
    spec = launch_spec_of(selection.candidate, HOST, SPEC)
    key = conversion(spec, Original.of(here.prepared.subject), store.list()).key
    store.make(key, lambda folder: (folder / "model.bin").write_bytes(b"x"))
    ready = here.make_ready(selection)
    assert isinstance(ready, Ready)
    artifact = store.get(key)
    assert artifact is not None
    assert ready.prepared.artifact_dir == artifact.path


def test_an_engine_that_cannot_answer_what_was_answered_is_not_taken(make: Make) -> None:
    less = behind(text=False, chats=False)
    here = make(able=less, asked_for=frozenset({Ability.SEED, Ability.LOGPROBS}))
    assert here.make_ready(best(here)) == Unfit(
        best=SDPA, why="it takes no `seed` and no text and no chats, which this server has answered"
    )
    unasked = make(able=behind())
    assert isinstance(unasked.make_ready(best(unasked)), Ready), "nobody has asked for a seed"


def test_other_weights_under_the_same_name_are_not_served_in_the_middle(make: Make) -> None:
    here = make()
    selection = best(here)
    changed = replace(selection, spec=replace(selection.spec, weights_identity="other"))
    assert here.make_ready(changed) == Unfit(best=SDPA, why=OTHER_FILES)


def test_what_changes_before_another_try(make: Make, cache: Cache) -> None:
    here = make()
    before = here.make_ready(best(here))
    assert isinstance(before, Ready)
    same = here.make_ready(best(here))
    assert isinstance(same, Ready)
    assert same.made_of == before.made_of
    cache.add(*under_load(SDPA, 240.0, calibration="s2", at=2e9))
    after = here.make_ready(best(here))
    assert isinstance(after, Ready)
    assert after.made_of != before.made_of


def test_the_candidates_are_judged_as_if_the_other_engine_were_gone(make: Make) -> None:
    """Of an accelerator what the rules count for it is added to what is free."""
    here = make()
    gpu = replace(HOST, devices=(replace(HOST.device, kind="cuda", free_bytes=1 << 30),))
    on_gpu: Prepared = replace(here.prepared, selection=replace(here.prepared.selection, host=gpu))
    found = replace(here, prepared=on_gpu, host=lambda: with_free(1 << 30)).weigh(Load.parse(LOAD))
    assert found.selection.host.device.free_bytes == (1 << 30) + here.prepared.room.needed_bytes

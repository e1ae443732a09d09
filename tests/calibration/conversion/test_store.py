"""The artifact store: whole or not at all, once for all who ask, swept after a kill."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from calibration.conversion.artifact import LOG
from calibration.conversion.disk import disk_of
from calibration.conversion.store import ArtifactStore
from calibration.errors import ArtifactError

KEY = {"kind": "converted", "model": "gpt2", "variant": "int8"}
OTHER = {"kind": "checkpoint", "model": "gpt2"}
REPOSITORY = Path(__file__).parents[3]


def fill(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "weights").write_bytes(b"12345")
    (folder / "sub/more").write_bytes(b"678")


def must_not_build(folder: Path) -> None:
    raise AssertionError("built twice")


def parts(root: Path) -> list[str]:
    return [p.name for p in root.glob("*.part-*")]


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], "subprocess.Popen[str]"]:
    """Start a process that makes KEY in tmp_path/store; `body` is what its build does with `folder`."""

    def begin(body: str) -> "subprocess.Popen[str]":
        program = (
            "import sys, time; from pathlib import Path\n"
            "from calibration.conversion.artifact import LOG\n"
            "from calibration.conversion.store import ArtifactStore\n"
            f"root = Path({str(tmp_path)!r})\n"
            "def build(folder):\n"
            "    with (root / 'builds').open('a') as file: file.write('built\\n')\n"
            "    (folder / 'half').write_text('half')\n"
            "    print('building', flush=True)\n"
            f"    {body}\n"
            "    (folder / 'weights').write_text('whole')\n"
            f"made = ArtifactStore(root / 'store').make({KEY!r}, build)\n"
            "print(sorted(f.name for f in made.path.iterdir()), flush=True)\n"
        )
        return subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE)

    return begin


def test_what_was_made_is_found_and_not_made_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert store.get(KEY) is None
    before = time.time()
    made = store.make(KEY, fill)
    assert (made.key, made.kind, made.bytes) == (KEY, "converted", 8)
    assert before <= made.created_at <= time.time() and 0 <= made.seconds < 5
    assert sorted(f.name for f in made.path.rglob("*")) == ["more", "sub", "weights"]
    assert store.make(dict(reversed(KEY.items())), must_not_build) == made == ArtifactStore(tmp_path).get(KEY)
    assert store.get({**KEY, "variant": "float32"}) is None


def test_the_folder_is_the_users_data_folder_or_the_one_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "named"))
    assert ArtifactStore().root == tmp_path / "named"
    monkeypatch.delenv("AUTOBACKEND_ARTIFACTS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ArtifactStore().root == tmp_path / "autobackend/artifacts"


def test_a_build_that_fails_leaves_nothing_and_its_error_as_it_was(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        fill(folder)
        raise FileNotFoundError(errno.ENOENT, "no tokenizer", "tokenizer.json")

    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        ArtifactStore(tmp_path).make(KEY, fails)
    assert (ArtifactStore(tmp_path).list(), parts(tmp_path)) == ([], [])
    assert ArtifactStore(tmp_path).make(KEY, fill).bytes == 8


def test_a_full_disk_is_said_with_its_mend(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        fill(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ArtifactError) as caught:
        ArtifactStore(tmp_path).make(KEY, full)
    assert (caught.value.message, caught.value.mend) == (
        f"no space left for artifacts in {tmp_path}",
        "free some: autobackend artifacts prune, or set AUTOBACKEND_ARTIFACTS",
    )
    assert parts(tmp_path) == []


def test_a_folder_that_is_a_file_is_said_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(ArtifactError, match=f"^the artifact store {re.escape(str(root))} cannot be used: "):
            ArtifactStore(root).make(KEY, fill)
        assert ArtifactStore(root).list() == []


@pytest.mark.parametrize("times", range(3))
def test_a_killed_build_leaves_nothing_that_looks_finished(
    times: int, start: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start("time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = ArtifactStore(tmp_path / "store")
    assert (store.get(KEY), store.list(), len(parts(store.root))) == (None, [], 1)
    assert [u.bytes for u in store.unfinished()] == [4]
    if times == 2:
        assert store.prune() == []
    else:  # the next build of this key sweeps it, and that of another key too
        assert store.make(OTHER if times else KEY, fill).bytes == 8
    assert store.unfinished() == []
    assert parts(store.root) == []


def test_who_asks_meanwhile_waits_and_gets_the_same(
    start: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    processes = [start("time.sleep(0.5)") for _ in range(3)]
    ends = [process.communicate()[0].splitlines()[-1] for process in processes]
    assert ends == ["['half', 'weights']"] * 3
    assert (tmp_path / "builds").read_text() == "built\n"
    assert parts(tmp_path / "store") == []


def test_who_waits_is_told_once_and_waits_no_longer_than_he_may(
    start: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    process = start("time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    told: list[str] = []
    store = ArtifactStore(tmp_path / "store")
    with pytest.raises(TimeoutError):
        store.make(KEY, must_not_build, waiting=lambda: told.append("waiting"), patience_s=0.6)
    assert told == ["waiting"]
    process.kill()
    process.communicate()
    assert store.make(KEY, fill, waiting=lambda: told.append("again")).bytes == 8
    assert told == ["waiting"]


def test_ctrl_c_ends_the_wait(start: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path) -> None:
    process = start("time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    # In a process of its own: OpenVINO, which other tests load into this one, may have left an alternate signal stack
    # that is gone; the signal's delivery would be a segmentation fault.
    program = (
        "import signal; from pathlib import Path; from calibration.conversion.store import ArtifactStore\n"
        "def waiting():\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    print('waiting', flush=True)\n"
        f"ArtifactStore(Path({str(tmp_path / 'store')!r})).make({KEY!r}, None, waiting=waiting)\n"
    )
    pipe = subprocess.PIPE
    waits = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, text=True, stdout=pipe, stderr=pipe)
    assert waits.stdout is not None
    assert waits.stdout.readline() == "waiting\n"
    waits.send_signal(signal.SIGINT)
    told = waits.communicate(timeout=30)[1]
    assert (waits.returncode, told.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
    process.kill()
    process.communicate()


def test_what_cannot_fit_does_not_begin(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    with pytest.raises(ArtifactError) as caught:
        store.make(KEY, must_not_build, what="the conversion", needed_bytes=1 << 60)
    disk = re.escape(str(disk_of(tmp_path)))
    assert re.fullmatch(
        rf"needs 1073741824\.0 GiB on {disk} for the conversion; \d+\.\d GiB are free", caught.value.message
    )
    assert caught.value.mend == (
        "autobackend artifacts prune frees some, AUTOBACKEND_ARTIFACTS names a folder on another disk"
    )
    assert (store.list(), store.unfinished()) == ([], [])
    made = store.make(KEY, fill, needed_bytes=8)
    assert store.make(KEY, must_not_build, needed_bytes=1 << 60) == made  # what is there needs no space


def test_a_log_that_the_build_leaves_is_kept_beside_the_manifest(tmp_path: Path) -> None:
    def logged(folder: Path) -> None:
        fill(folder)
        (folder.parent / LOG).write_text("converting\n")

    made = ArtifactStore(tmp_path).make(KEY, logged)
    assert (made.log.read_text(), made.bytes) == ("converting\n", 8)


def test_threads_wait_for_one_another_too(tmp_path: Path) -> None:
    built: list[int] = []

    def slow(folder: Path) -> None:
        built.append(1)
        time.sleep(0.1)
        fill(folder)

    threads = [threading.Thread(target=lambda: ArtifactStore(tmp_path).make(KEY, slow)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]


def test_who_waits_for_a_killed_build_makes_it(start: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path) -> None:
    first = start("time.sleep(60)")
    assert first.stdout is not None
    first.stdout.readline()
    second = start("pass")
    first.kill()
    first.communicate()
    assert second.communicate()[0] == "building\n['half', 'weights']\n"
    assert (tmp_path / "builds").read_text() == "built\nbuilt\n"


def test_a_prune_spares_what_is_being_built(start: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path) -> None:
    process = start("time.sleep(1)")
    assert process.stdout is not None
    process.stdout.readline()
    assert ArtifactStore(tmp_path / "store").prune() == []
    assert process.communicate()[0] == "['half', 'weights']\n"


def test_list_is_newest_first_and_prune_takes_by_age_and_kind(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    first, second = store.make(KEY, fill), store.make(OTHER, fill)
    assert list(store.list()) == [second, first]
    assert store.prune(older_than_days=1) == []
    assert store.prune(only=lambda artifact: artifact.key["model"] == "another") == []
    assert list(store.prune(kinds=["converted"])) == [first]
    assert list(store.list()) == [second] and not first.path.exists()
    assert list(store.prune()) == [second]
    assert store.list() == []


@pytest.mark.parametrize("text", ["", "[]", '{"key": 1}', '{"key": {}, "bytes": "many"}', "\xff"])
def test_a_manifest_that_is_none_is_as_if_nothing_was_made(text: str, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    made = store.make(KEY, fill)
    (made.path.parent / "artifact.json").write_bytes(text.encode("latin-1"))
    assert (store.get(KEY), store.list()) == (None, [])
    assert store.make(KEY, fill).bytes == 8

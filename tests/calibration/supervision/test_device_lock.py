"""Two calibrations of one device never overlap, and a dead one holds nothing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calibration.errors import DeviceBusy
from calibration.supervision.device_lock import calibrated_by, device_lock

HOLDER = """
import sys, time
from pathlib import Path
from calibration.supervision.device_lock import device_lock
with device_lock("a GPU", folder=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_holder_is_named_and_its_death_frees_the_device(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(DeviceBusy, match=rf"a GPU is being calibrated by process {holder.pid} since \d\d:\d\d:\d\d"),
        device_lock("a GPU", folder=tmp_path),
    ):
        pass
    with device_lock("another GPU", folder=tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with device_lock("a GPU", folder=tmp_path):
        pass


SERVER = """
import sys, time
from pathlib import Path
from calibration.supervision.device_lock import calibrated_by, serving_on
folder = Path(sys.argv[1])
with serving_on("a GPU", model="./model", url="http://127.0.0.1:8000", folder=folder):
    print("serves", calibrated_by("a GPU", folder=folder), flush=True)
    time.sleep(60)
"""


@contextmanager
def serving(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that serves, and prints who calibrates."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        yield server
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_beside_a_server_nothing_is_calibrated(tmp_path: Path) -> None:
    with serving(tmp_path) as server, serving(tmp_path) as other:  # two servers side by side are none of our business
        assert first_line(server) == first_line(other) == "serves \n"
        other.kill()
        other.wait()
        with pytest.raises(DeviceBusy) as busy, device_lock("a GPU", folder=tmp_path):
            pass
        assert re.fullmatch(
            rf"a GPU serves \./model at http://127\.0\.0\.1:8000 \(process {server.pid} since \d\d:\d\d:\d\d\):"
            r" beside that every time would be wrong",
            busy.value.message,
        )
        assert busy.value.mend == "stop it, calibrate, and start it again"
        with device_lock("another GPU", folder=tmp_path):
            pass
        server.send_signal(signal.SIGKILL)
        server.wait()
        with device_lock("a GPU", folder=tmp_path):
            pass
    assert [file.name for file in tmp_path.glob("*server*")] == []


def test_a_calibration_starts_servers_of_its_own(tmp_path: Path) -> None:
    with device_lock("a GPU", folder=tmp_path), serving(tmp_path) as server:
        assert first_line(server) == "serves \n"


def test_a_server_says_who_calibrates(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert first_line(holder) == "held\n"
        with serving(tmp_path) as server:
            assert re.fullmatch(rf"serves process {holder.pid} since \d\d:\d\d:\d\d\n", first_line(server))
        assert calibrated_by("another GPU", folder=tmp_path) == ""
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    assert calibrated_by("a GPU", folder=tmp_path) == ""

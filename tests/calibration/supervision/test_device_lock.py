"""Two calibrations of one device never overlap, and a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.errors import DeviceBusy
from calibration.supervision.device_lock import device_lock

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

"""take_probe(): the machine's memory and arithmetic, measured by torch or numpy in a process of its own."""

import re
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calibration.environments.packages import installed
from calibration.errors import BackendError
from calibration.launch.timing import DIRTY_CORES
from calibration.probing.kernels import DTYPES
from calibration.probing.measure import MEMORY
from calibration.probing.probe import Probe, Reached
from calibration.supervision.deadline import Deadline, GivenUp
from calibration.supervision.device_lock import device_lock
from calibration.supervision.supervisor import Worker
from calibration.supervision.workers import start_worker, worker_variables
from selector.host.spec import HostSpec

PART_SECONDS = 0.8
"""What measuring one part takes, with one core or with all: a probe has up to ten of these, and torch to import."""
EXPECTED_SECONDS = 15.0
"""What a probe took on two cores of an EPYC with Zen 5: 12 to 16 s."""
AGAIN_S = 15.0
"""Disturbed parts are measured again for so long after the beginning: on a busy machine they would double the time."""
OPEN_S = 180.0
"""Importing torch from a slow disk takes a minute."""
PART_S = 60.0
"""After this long a part is given up. Each takes PART_SECONDS, and the first also fills the memory that is read."""
_NEVER = Deadline(at=None, clock=time.monotonic)
READ_BYTES = 1 << 30
"""On a CPU; an accelerator reads ten times as fast, and the start of each read must not count."""
READ_BYTES_ON_ACCELERATOR = 4 << 30
TIMES_CACHE = 8
"""So many times the last cache are read: then at most an eighth can come out of it."""
TORCH_DEVICES = {"cpu": "cpu", "cuda": "cuda", "rocm": "cuda", "maca": "cuda"}
"""Device kind: what torch calls it. ROCm's and MetaX's torch keep the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Library:
    """What probes, and the interpreter that has it."""

    python: Path
    name: str


@dataclass(slots=True, kw_only=True)
class _Results:
    """What the parts have reached so far."""

    reached: dict[str, Reached] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    cache_bytes: int = 0
    again_until: float = field(default_factory=lambda: time.monotonic() + AGAIN_S)


def take_probe(host: HostSpec, *, part_seconds: float = PART_SECONDS) -> Probe:
    """Measure what the device that runs models reaches: its memory, and products of matrices in each dtype.

    A part during which other programs used the CPU is measured once more, and named in `disturbed` if they still did.

    Args:
        host: this machine.
        part_seconds: for each part.

    Raises:
        DeviceBusy: a calibration holds the device, or a server runs on it.
        BackendError: no interpreter here can probe it.
    """
    host.require_here("a probe")
    began, taken_at = time.monotonic(), time.time()
    with device_lock(host.device.name):
        results = _first_that_works(host, part_seconds)
    return Probe(
        probe_id=uuid.uuid4().hex,
        host=host.identifier,
        device=host.device.name,
        taken_at=taken_at,
        seconds=time.monotonic() - began,
        bandwidth_gbs=results.reached[MEMORY],
        rates={dtype: results.reached[dtype] for dtype in DTYPES if dtype in results.reached},
        missing=results.missing,
        cache_bytes=results.cache_bytes,
        disturbed=tuple(results.disturbed),
        versions=results.versions,
    )


def last_cache_bytes(cpu: int, root: Path = Path("/")) -> int:
    """The largest cache that a core sees; 0 where the kernel does not say."""
    files = (root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index*/size")
    texts = (re.fullmatch(r"(\d+)([KMG]?)\n?", file.read_text(encoding="ascii")) for file in files)
    return max((int(text[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[text[2]] for text in texts if text), default=0)


def _first_that_works(host: HostSpec, part_seconds: float) -> _Results:
    """The results of the first interpreter whose library reads the device's memory."""
    problems = []
    for library in _libraries(host):
        try:
            return _probed(host, library, part_seconds)
        except GivenUp as given_up:
            problems.append(f"  {library.python} ({library.name}): {given_up.trouble.message}")
    raise BackendError(
        "\n".join([f"no interpreter here can probe {host.device.name}", *problems]),
        "install a backend that brings torch for it: autobackend backends install transformers",
    )


def _libraries(host: HostSpec) -> Iterator[_Library]:
    """Interpreters with a torch for the device, transformers' first; at last, for a CPU, our own with numpy."""
    kind = host.device.kind
    if kind not in TORCH_DEVICES:
        return
    names = sorted(host.installations, key=lambda name: name != "transformers")
    pythons = {host.installations[name].python: host.installations[name].versions for name in names}
    for python, versions in pythons.items():
        if "torch" in versions and (kind == "cpu" or not versions["torch"].endswith("+cpu")):
            yield _Library(python=python, name="torch")
    own = Path(sys.executable)
    if kind == "cpu" and "numpy" in installed(own):
        yield _Library(python=own, name="numpy")


def _probed(host: HostSpec, library: _Library, part_seconds: float) -> _Results:
    """Every part, in a worker; where it dies in one part, the parts after it in another worker.

    Raises:
        GivenUp: the library cannot be imported, or the memory cannot be read.
    """
    results, parts = _Results(), deque([MEMORY, *DTYPES])
    with tempfile.TemporaryDirectory(prefix="autobackend-probe-") as folder:
        while parts:
            with _open_worker(host, library, Path(folder) / "log", results) as worker:
                while parts:
                    part = parts.popleft()
                    try:
                        _measure(worker, host, part, part_seconds, results)
                    except GivenUp as given_up:
                        if part == MEMORY:
                            raise
                        results.missing[part] = given_up.trouble.message
                        break
    return results


@contextmanager
def _open_worker(host: HostSpec, library: _Library, log: Path, results: _Results) -> Iterator[Worker]:
    """A worker that has imported the library, whose versions go into the results.

    Raises:
        GivenUp: it cannot be started, or cannot import the library.
    """
    with start_worker(
        library.python,
        log=log,
        memory_limit_bytes=int(_free_bytes(host) * 0.95),
        variables={**worker_variables(host.cores), "OPENBLAS_NUM_THREADS": "1"},
    ) as worker:
        device = TORCH_DEVICES[host.device.kind]
        told = _NEVER.ask(
            worker, "open", OPEN_S, "open_probe", library=library.name, device=device, cpus=host.bound_cpus
        ).fields
        results.versions = {name: str(version) for name, version in told["versions"].items()}
        results.cache_bytes = int(told["cache_bytes"]) or last_cache_bytes((host.cpus or (0,))[0])
        yield worker


def _measure(worker: Worker, host: HostSpec, part: str, part_seconds: float, results: _Results) -> None:
    """Measure a part with one core and with all, or on the accelerator, and keep what it reached.

    Raises:
        GivenUp: the worker died, or did not answer.
    """
    each_threads = dict.fromkeys((1, host.cores) if host.device.kind == "cpu" else (1,))
    size = _read_bytes(host, results.cache_bytes)
    measured = []
    for threads in each_threads:
        fields, disturbed = _measured(
            worker, part, again_until=results.again_until, threads=threads, size=size, seconds=part_seconds
        )
        if "missing" in fields:
            results.missing[part] = fields["missing"]
            return
        if disturbed and part not in results.disturbed:
            results.disturbed.append(part)
        measured.append(fields)
    one, most = measured[0], measured[-1]
    of_one_core = tuple(one["samples"]) if host.device.kind == "cpu" else ()
    results.reached[part] = Reached(samples=tuple(most["samples"]), samples_of_one_core=of_one_core, way=most["way"])


def _measured(worker: Worker, part: str, *, again_until: float, **how: Any) -> tuple[Mapping[str, Any], bool]:
    """What the worker answers, and whether other programs used the CPU: then it is asked again, and the best counts.

    Args:
        again_until: by the monotonic clock.

    Raises:
        GivenUp: the worker died, or did not answer.
    """
    first = _NEVER.ask(worker, part, PART_S, "probe", part=part, **how)
    disturbed = first.foreign_cores > DIRTY_CORES
    if not disturbed or "missing" in first.fields or time.monotonic() > again_until:
        return first.fields, disturbed
    second = _NEVER.ask(worker, part, PART_S, "probe", part=part, **how)
    best = max(first.fields, second.fields, key=lambda fields: max(fields["samples"]))
    return best, second.foreign_cores > DIRTY_CORES


def _read_bytes(host: HostSpec, cache_bytes: int) -> int:
    """How much memory is read: far more than a cache holds, and at most a quarter of what is free; whole numbers."""
    least = READ_BYTES if host.device.kind == "cpu" else READ_BYTES_ON_ACCELERATOR
    return min(max(least, TIMES_CACHE * cache_bytes), _free_bytes(host, device=True) // 4) // 4096 * 4096


def _free_bytes(host: HostSpec, *, device: bool = False) -> int:
    """Of the host's memory, or of the device's; where it is not known, what the probe of a CPU needs and some."""
    on_device = device or host.device.kind == "cpu"
    return (host.device.free_bytes if on_device else host.memory_bytes) or 8 * READ_BYTES

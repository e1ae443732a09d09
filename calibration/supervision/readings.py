"""What the kernel and the GPU driver say of processes: time, memory, who is alive."""

import contextlib
import os
from pathlib import Path


def busy_s() -> float:
    """CPU seconds spent so far on our cores, by all processes, and by other machines on the same hardware (steal)."""
    our_cores = os.sched_getaffinity(0)
    ticks = 0
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            name, *values = line.split()
            if name.startswith("cpu") and name != "cpu" and int(name[3:]) in our_cores:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
                ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def group_runs(group: int) -> bool:
    """Whether a process group has a member that is not a zombie."""
    for name in os.listdir("/proc"):  # noqa: PTH208  names are all that is needed
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                state, _parent, member_of = file.read().rpartition(")")[2].split()[:3]
                if int(member_of) == group and state not in "ZX":
                    return True
    return False


def gpu_bytes(pids: set[int]) -> int:
    """Memory that these processes hold on NVIDIA GPUs; 0 where the driver does not say."""
    import pynvml

    try:
        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        running = [p for d in devices for p in pynvml.nvmlDeviceGetComputeRunningProcesses(d)]
    except pynvml.NVMLError:
        return 0
    return sum(p.usedGpuMemory or 0 for p in running if p.pid in pids)


def oom_kills() -> int:
    """How often the kernel has killed a process since memory ran out, on the machine and in our cgroup."""
    total = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    total += int(line.split()[1])
    return total

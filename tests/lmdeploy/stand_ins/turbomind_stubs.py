"""Load LMDeploy's compiled TurboMind on a machine without a GPU, for tests of its rules and of our adapter.

The library of the wheel is the real one. What lies below it is replaced by the shared objects of stubs/, built with
gcc: a CUDA runtime whose device memory is host memory and whose kernel launches do nothing, and a driver, cuBLAS and
NCCL. So planning, checks of format and alignment, weight copies, the KV pool, the scheduler and the lookup of kernels
are LMDeploy's own C++. What it computes means nothing: the sampled token is always TOKEN.

Not true to a GPU: values, times, graph capture, faults of kernels, occupancy beyond shared memory, NCCL and IPC. A
check that fails in C++ ends the process with SIGABRT: run each case in a child. Made for lmdeploy 0.18.0: each
replacement names the line that needs it (paths relative to lmdeploy/turbomind/, or starting with lmdeploy/).
"""

import contextlib
import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

TOKEN = 5
"""What the imitated sampling kernel answers (stubs/cudart.c)."""

LIBRARIES = (
    ("libcuda.so.1", "cuda.c", False),
    ("libcudart.so.12", "cudart.c", True),
    ("libnccl.so.2", "nccl.c", False),
    ("libcublasLt.so.12", "cublaslt.c", True),
    ("libcublas.so.12", "cublas.c", True),
)
"""Name, source, and whether its symbols carry a version node of that name, as _turbomind.so asks for."""


def build() -> Path:
    """Compile the stubs once for each state of their sources; returns the folder of the libraries."""
    sources = Path(__file__).parent / "stubs"
    state = hashlib.sha256(b"".join((sources / source).read_bytes() for _, source, _ in LIBRARIES)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"autobackend-cuda-stubs-{os.getuid()}-{state}"
    folder.mkdir(exist_ok=True)
    for name, source, versioned in LIBRARIES:
        if (folder / name).exists():
            continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made, nodes = Path(scratch) / name, Path(scratch) / "nodes.map"
            nodes.write_text(f"{name} {{ global: *; }};")
            command = [
                "gcc",
                "-O1",
                "-w",
                "-shared",
                "-fPIC",
                f"-Wl,-soname,{name}",
                str(sources / source),
                "-lpthread",
            ]
            command += [f"-Wl,--version-script={nodes}"] if versioned else []
            subprocess.run([*command, "-o", str(made)], check=True)
            made.replace(folder / name)
    return folder


def set_device(capability: tuple[int, int], devices: int = 8, memory_gb: int = 8) -> None:
    """Name the device that the stubs report from now on."""
    os.environ.update(
        FAKE_SM=str(capability[0] * 10 + capability[1]), FAKE_DEVICES=str(devices), FAKE_MEM_GB=str(memory_gb)
    )


def install(capability: tuple[int, int] = (9, 0), devices: int = 8, memory_gb: int = 8) -> None:
    """Put the stand-ins in place; lmdeploy.turbomind must not have been imported before.

    Raises:
        RuntimeError: the library still does not load.
    """
    import torch

    set_device(capability, devices, memory_gb)
    folder = build()
    for name, _, _ in LIBRARIES:  # __init__.py:8 imports the library; names that are loaded already satisfy it
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    cuda: Any = torch.cuda
    cuda.device = lambda *args, **kwargs: contextlib.nullcontext()  # converter.py:54, turbomind.py:167
    cuda.device_count = lambda: int(os.environ["FAKE_DEVICES"])  # turbomind.py:82
    cuda.empty_cache = lambda: None  # model_loader.py:80
    cuda.current_device = lambda: 0  # linear.py:135
    tensor: Any = torch.Tensor
    tensor.cuda = lambda self, *args, **kwargs: self.contiguous().clone()  # checkpoint.py:213,219: copies to the device

    from lmdeploy import turbomind

    if not turbomind.is_available():
        raise RuntimeError(f"the stubs do not satisfy TurboMind's library: {turbomind._import_error}")
    from lmdeploy.turbomind import turbomind as module

    module.get_max_batch_size = lambda device: 128  # turbomind.py:136 reads the name of a real GPU

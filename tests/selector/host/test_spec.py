"""HostSpec.detect on golden trees: a folder's name is the expected answer."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import archspec.cpu
import pytest

from calibration.registry import all_backends
from selector.host.cpu import Cpu
from selector.host.device import Machine
from selector.host.kinds import accelerators
from selector.host.spec import Device, HostSpec, Installation
from tests.selector.conftest import GIB, FakeBackend

HOSTS = Path(__file__).parents[2] / "data/hosts"


def detect(name: str, **environ: str) -> HostSpec:
    return HostSpec.detect(HOSTS / name, environ=environ, backends={})


@pytest.mark.parametrize("name", sorted(folder.name for folder in HOSTS.iterdir()))
def test_folder_name_is_the_answer(name: str) -> None:
    found = detect(name)
    assert f"{found.device.kind}-{found.cpu_name}-{found.cores}-cores-{found.memory_bytes // GIB}-gib" == name


def test_cgroup_v2_limits_cores_and_memory() -> None:
    # 2.5 cores by the parent's quota; 4 GiB of which 3 are used, 1 of them by files that are given back
    assert detect("cpu-sapphirerapids-2-cores-4-gib") == HostSpec(
        identifier="cf0101863eba",
        cpu_name="sapphirerapids",
        cpu_model="Intel Xeon Platinum 8480+",
        cpu_features=frozenset(
            {
                "amx_bf16",
                "amx_int8",
                "amx_tile",
                "avx",
                "avx2",
                "avx512_bf16",
                "avx512_vnni",
                "avx512f",
                "f16c",
                "fma",
            }
        ),
        cores=2,
        memory_bytes=4 * GIB,
        devices=(
            Device(
                kind="cpu",
                name="Intel Xeon Platinum 8480+ (sapphirerapids), 2 cores",
                memory_bytes=4 * GIB,
                free_bytes=2 * GIB,
            ),
        ),
        installations={},
        cpus=(0, 1),
    )


def test_cgroup_v1_limits_cores_and_memory() -> None:
    # 1.5 cores by quota; 2 GiB of which 1 is used, half of that by files
    assert detect("cpu-zen4-1-cores-2-gib").devices == (
        Device(kind="cpu", name="AMD EPYC 9654 (zen4), 1 core", memory_bytes=2 * GIB, free_bytes=3 * GIB // 2),
    )


def test_affinity_limits_cores_and_a_cgroup_without_limit_nothing() -> None:
    assert detect("cpu-zen3-3-cores-16-gib").devices == (
        Device(kind="cpu", name="AMD EPYC 7763 (zen3), 3 cores", memory_bytes=16 * GIB, free_bytes=12 * GIB),
    )


def test_arm() -> None:
    found = detect("cpu-neoverse_v1-4-cores-8-gib")
    assert found.device.name == "ARM neoverse_v1, 4 cores"
    assert found.cpu_features == {"bf16", "dotprod", "fp16", "i8mm", "neon", "sve"}


def without(root: Path, *flags: str) -> HostSpec:
    """The Sapphire Rapids of the trees where a virtual machine hides these flags."""
    shutil.copytree(HOSTS / "cpu-sapphirerapids-2-cores-4-gib", root)
    file = root / "proc/cpuinfo"
    file.write_text(re.sub(rf" ({'|'.join(flags)})\b", "", file.read_text()))
    return HostSpec.detect(root, environ={}, backends={})


def test_machines_of_one_image_are_told_apart_by_the_instructions_of_their_processors(tmp_path: Path) -> None:
    """Both lack what the younger name needs and have the same machine-id."""
    matrices = without(tmp_path / "a", "waitpkg")
    plain = without(tmp_path / "b", "waitpkg", "amx_bf16", "amx_int8", "amx_tile", "avx512_bf16")
    assert matrices.device.name == "Intel Xeon Platinum 8480+ (icelake + amx_bf16 amx_int8 avx512_bf16), 2 cores"
    assert plain.device.name == "Intel Xeon Platinum 8480+ (icelake), 2 cores"
    assert matrices.identifier != plain.identifier


def test_a_gpu_in_another_machine_of_the_same_image_is_another_host(tmp_path: Path) -> None:
    for root, hidden in (("a", "waitpkg"), ("b", "avx512_bf16")):
        without(tmp_path / root, hidden)
    one, other = (HostSpec.detect(tmp_path / r, nvml=Nvml(H200), environ={}, backends={}) for r in "ab")
    assert one.device.name == other.device.name
    assert one.identifier != other.identifier


def test_rocm() -> None:
    first, second = detect("rocm-zen4-2-cores-64-gib").devices
    assert first == Device(
        kind="rocm",
        name="AMD Instinct MI300X OAM (gfx942)",
        memory_bytes=192 * GIB,
        free_bytes=191 * GIB,
        driver="6.4.1-83",
    )
    assert second.free_bytes == 190 * GIB
    assert detect("rocm-zen4-2-cores-64-gib", HIP_VISIBLE_DEVICES="1").devices == (second,)
    assert detect("rocm-zen4-2-cores-64-gib", ROCR_VISIBLE_DEVICES="-1").device.kind == "cpu"


def test_graphics_of_a_desktop_processor_are_no_device() -> None:
    assert detect("cpu-zen3-2-cores-32-gib").device.name == "AMD Ryzen 7 5700G with Radeon Graphics (zen3), 2 cores"


def test_other_accelerators() -> None:
    ascend = Device(kind="ascend", name="Ascend 910B", memory_bytes=0, free_bytes=0, driver="24.1.rc3")
    assert detect("ascend-aarch64-2-cores-64-gib").devices == (ascend, ascend)
    assert detect("ascend-aarch64-2-cores-64-gib", ASCEND_RT_VISIBLE_DEVICES="1").devices == (ascend,)
    cambricon = Device(kind="camb", name="MLU370-X8", memory_bytes=0, free_bytes=0)
    assert detect("camb-skylake_avx512-2-cores-64-gib").devices == (cambricon,)
    metax = Device(kind="maca", name="MetaX GPU", memory_bytes=0, free_bytes=0)
    assert detect("maca-icelake-2-cores-64-gib").devices == (metax, metax)


def test_nothing_readable_is_a_cpu_of_unknown_name(tmp_path: Path) -> None:
    assert HostSpec.detect(tmp_path, environ={}, backends={}).devices == (
        Device(kind="cpu", name=f"unknown, {_cores()}", memory_bytes=0, free_bytes=0),
    )


def _cores() -> str:
    count = os.cpu_count() or 1
    return "1 core" if count == 1 else f"{count} cores"


class NVMLError(Exception):
    pass


class Nvml:
    """pynvml's functions over a list of GPUs; a field that is missing is not supported by the device."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *gpus: dict[str, Any], broken: bool = False) -> None:
        self.gpus = gpus
        self.broken = broken

    def __getattr__(self, function: str) -> Any:
        fields = {
            "nvmlDeviceGetName": "name",
            "nvmlDeviceGetUUID": "uuid",
            "nvmlDeviceGetPciInfo": "pci",
            "nvmlDeviceGetMemoryInfo": "memory",
            "nvmlDeviceGetPowerManagementLimit": "power",
            "nvmlDeviceGetCudaComputeCapability": "capability",
            "nvmlDeviceGetMigMode": "mig",
        }

        def read(gpu: dict[str, Any]) -> Any:
            if fields[function] not in gpu:
                raise NVMLError("Not Supported")
            return gpu[fields[function]]

        if function not in fields:
            raise AttributeError(function)
        return read

    def nvmlInit(self) -> None:  # noqa: N802
        if self.broken:
            raise NVMLError("Driver Not Loaded")

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        return self.gpus[index]

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.124.06"

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: dict[str, Any]) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: dict[str, Any], index: int) -> dict[str, Any]:  # noqa: N802
        if index >= len(gpu["slices"]):
            raise NVMLError("Not Found")
        found: dict[str, Any] = gpu["slices"][index]
        return found


H200 = {
    "name": "NVIDIA H200",
    "uuid": "GPU-11111111-1111",
    "pci": SimpleNamespace(busId="00000000:C7:00.0"),
    "memory": SimpleNamespace(total=141 * GIB, free=140 * GIB),
    "power": 700000,
    "capability": (9, 0),
    "mig": [0, 0],
}
CUT = {
    "name": "NVIDIA A100-SXM4-40GB",
    "uuid": "GPU-22222222-2222",
    "capability": (8, 0),
    "mig": [1, 1],
    "slices": [
        {
            "name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
            "uuid": "MIG-33333333-3333",
            "memory": SimpleNamespace(total=20 * GIB, free=19 * GIB),
            "capability": (8, 0),
        }
    ],
}
GB10 = {"name": "NVIDIA GB10", "uuid": "GPU-44444444-4444", "capability": (12, 1)}

H200_DEVICE = Device(
    kind="cuda",
    name="NVIDIA H200",
    memory_bytes=141 * GIB,
    free_bytes=140 * GIB,
    capability=(9, 0),
    driver="570.124.06",
    power_limit_w=700.0,
    uuid="GPU-11111111-1111",
    address="0000:c7:00.0",
)
SLICE_DEVICE = Device(
    kind="cuda",
    name="NVIDIA A100-SXM4-40GB MIG 3g.20gb",
    memory_bytes=20 * GIB,
    free_bytes=19 * GIB,
    capability=(8, 0),
    driver="570.124.06",
    mig="3g.20gb",
    uuid="MIG-33333333-3333",
)
GB10_DEVICE = Device(
    kind="cuda",
    name="NVIDIA GB10",
    memory_bytes=0,
    free_bytes=0,
    capability=(12, 1),
    driver="570.124.06",
    uuid="GPU-44444444-4444",
)


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (None, (H200_DEVICE, SLICE_DEVICE, GB10_DEVICE)),
        ("2,0", (GB10_DEVICE, H200_DEVICE)),
        ("1", (SLICE_DEVICE,)),
        ("MIG-33333333-3333", (SLICE_DEVICE,)),
        ("GPU-4444", (GB10_DEVICE,)),
        ("0,7,2", (H200_DEVICE,)),
        ("", ()),
        ("-1", ()),
    ],
)
def test_nvidia(tmp_path: Path, visible: str | None, devices: tuple[Device, ...]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert accelerators(Machine(root=tmp_path, environ=environ, nvml=Nvml(H200, CUT, GB10))) == devices


def test_nvidia_driver_that_does_not_answer(tmp_path: Path) -> None:
    assert accelerators(Machine(root=tmp_path, environ={}, nvml=Nvml(H200, broken=True))) == ()


def test_free_memory_is_no_part_of_the_identity() -> None:
    full = {**H200, "memory": SimpleNamespace(total=141 * GIB, free=1 * GIB)}
    root = HOSTS / "cpu-zen3-3-cores-16-gib"
    found = [HostSpec.detect(root, nvml=Nvml(*gpus), environ={}, backends={}) for gpus in ([H200], [full], [GB10])]
    assert found[0].identifier == found[1].identifier != found[2].identifier
    assert found[0] != found[1]


def test_this_host_is_named_as_archspec_names_it() -> None:
    assert Cpu.detect().name == archspec.cpu.host().name


def test_this_host_knows_where_every_backend_runs() -> None:
    found = HostSpec.detect()
    assert found.installations.keys() == all_backends().keys()
    ours = found.installations["transformers"]
    assert ours.python == Path(sys.executable)
    assert "pytest" in ours.versions


def test_interpreter_of_the_config_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[backends.fake]\npython = "/gone/bin/python"\n')
    before = os.environ["AUTOBACKEND_CONFIG"]
    os.environ["AUTOBACKEND_CONFIG"] = str(config)
    try:
        found = HostSpec.detect(HOSTS / "cpu-zen3-3-cores-16-gib", environ={}, backends={"fake": FakeBackend()})
    finally:
        os.environ["AUTOBACKEND_CONFIG"] = before
    assert found.installations == {
        "fake": Installation(
            python=Path("/gone/bin/python"),
            versions={},
            site_packages=(),
            problem="interpreter /gone/bin/python does not exist",
        )
    }


def test_detection_imports_no_engine_and_nothing_heavy() -> None:
    code = (
        "import sys; from selector.host.spec import HostSpec; HostSpec.detect();"
        "heavy = {'torch', 'transformers', 'lmdeploy', 'numpy', 'archspec', 'pynvml', 'elftools', 'packaging'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"

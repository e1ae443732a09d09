"""A Hugging Face folder as a GGUF file, by llama.cpp's own converter, and where that comes from."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import calibration
from calibration.backends.llamacpp.table import CONVERTER
from calibration.environments.distributions import beside_folder
from calibration.environments.source_files import SourceFiles

SOURCE_FILES = SourceFiles(
    name=CONVERTER,
    hashes=Path(__file__).parents[1] / "sources.json",
    folder="thirdparty/llama.cpp",
    # The converter, the `gguf` that it brings, and what the loader calls the architectures that it knows.
    patterns=(
        "LICENSE", "convert_hf_to_gguf.py", "conversion/*.py", "gguf-py/LICENSE", "gguf-py/gguf/*.py",
        "src/llama-arch.cpp",
    ),
    takes="a download of 36 MiB",
)  # fmt: skip
"""llama.cpp's converter lies in the source distribution of xllamacpp alone (MIT License), and matches its library."""

PLAIN = frozenset({"f32", "f16", "bf16"})
"""Types that the converter writes."""


def convert(model_dir: Path, destination: Path, outtype: str, say: Callable[[str], None]) -> None:
    """Write a Hugging Face folder as a file, by llama.cpp's own converter.

    Args:
        outtype: f32, f16 or bf16.

    Raises:
        RuntimeError: the converter's own reason.
    """
    folder = beside_folder(Path(sys.executable), CONVERTER)
    version = next((f.stem.rpartition("-")[2] for f in folder.glob("*.dist-info")), None)
    if version is None or not (folder / "convert_hf_to_gguf.py").is_file():
        raise RuntimeError(f"needs {CONVERTER} of the installed xllamacpp in {folder}; found none")
    say(f"llamacpp: converting {model_dir} to {outtype}")
    program = f"{__package__}.converter"
    with subprocess.Popen(
        # -P: modules in the folder that it writes to are not looked for.
        [sys.executable, "-P", "-m", program, str(folder), str(model_dir.resolve()), str(destination), outtype],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=destination.parent,
        env=_environment(),
    ) as process:
        assert process.stdout is not None
        last: deque[str] = deque(maxlen=1)
        for line in process.stdout:
            say(line.rstrip())
            if line.strip():
                last.append(line.strip())
    if process.returncode:
        cause = last[0] if last else f"exit code {process.returncode}"
        raise RuntimeError(f"{CONVERTER} {version}: {cause}")


def _environment() -> dict[str, str]:
    # By NO_LOCAL_GGUF the converter would take the `gguf` of the interpreter, which is older.
    kept = {name: value for name, value in os.environ.items() if name != "NO_LOCAL_GGUF"}
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(calibration.__file__).resolve().parents[1])}

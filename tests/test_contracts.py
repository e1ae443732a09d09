"""What import-linter cannot see: what is imported when a module is, and what stands in the files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CALIBRATION = ROOT / "calibration"
WORKER_SIDE = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *CALIBRATION.glob("*.py"),
        *(
            path
            for folder in ("worker", "checkpoints", "probing", "backends")
            for path in (CALIBRATION / folder).rglob("*.py")
        ),
    )
)
ENGINES = {
    "ctranslate2", "huggingface_hub", "lmdeploy", "numpy", "onnxruntime", "onnxruntime_genai", "torch", "transformers",
}  # fmt: skip
WORKER = CALIBRATION / "worker" / "main.py"
OURS = [
    "autobackend",
    "selector",
    "selector.cli",
    "calibration.registry",
    "calibration.worker.main",
    "calibration.race.rounds.runner",
]


@pytest.mark.parametrize("file", WORKER_SIDE)
def test_worker_side_imports_the_standard_library_only(file: str) -> None:
    """At module level: an engine is imported by the backend that loads it, inside its functions."""
    imported = {name.split(".")[0] for name in module_level_imports(ROOT / file)}
    assert imported - set(sys.stdlib_module_names) - {"calibration"} == set()


@pytest.mark.parametrize("module", OURS)
def test_importing_us_imports_no_engine(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({ENGINES!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_no_package_imports_the_public_face() -> None:
    """autobackend.py is a single file, which import-linter does not read: it stands above selector and calibration."""
    for package in ("selector", "calibration"):
        for path in (ROOT / package).rglob("*.py"):
            names = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                for name in (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
            }
            assert "autobackend" not in names, path


def test_everything_that_the_worker_needs_runs_without_our_packages() -> None:
    """In an interpreter without site-packages (-S) and without the folder on its path."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('worker', {str(WORKER)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "from calibration.registry import all_backends\n"
        "print(*all_backends())\n"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert {"turbomind", "pytorch", "transformers", "ctranslate2", "onnxruntime"} <= set(run.stdout.split())


def module_level_imports(path: Path) -> set[str]:
    """Names imported when the module is: outside of functions and of `if TYPE_CHECKING`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        match waiting.pop():
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                waiting += otherwise
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                pass
            case node:
                waiting += ast.iter_child_nodes(node)
    return found

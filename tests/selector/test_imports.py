"""What a fresh process imports when it asks for an answer."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("torch", "transformers", "lmdeploy", "numpy", "ctranslate2", "onnxruntime", "tokenizers")
OURS = (
    "sqlalchemy", "alembic", "click", "rich", "jinja2", "psutil", "huggingface_hub", "starlette", "uvicorn", "anyio",
    "httpx2", "tokenizers", "prometheus_client",
)  # fmt: skip


def imported(code: str, *names: str, warn: str = "ignore") -> list[str]:
    """Which of `names` are in sys.modules after `code`, in a fresh interpreter."""
    told = f"{code}\nimport sys\nprint('\\n', *(n for n in {names!r} if n in sys.modules))"
    run = subprocess.run([sys.executable, "-W", warn, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.rpartition("\n ")[2].split()


MEASURED = """
from pathlib import Path
from tempfile import TemporaryDirectory
from calibration.cache.cache import Cache
from tests.selector.answering import HOST, KEY, SDPA, answer
from tests.selector.launches import rounds
with TemporaryDirectory() as folder, Cache.open(Path(folder) / "cache.db") as cache:
    assert answer(cache, *rounds(SDPA, KEY, HOST, (1.0,))).source == "measured"
"""


@pytest.mark.parametrize(
    "code",
    [
        MEASURED,
        "from selector import explain; explain('shape:qwen2.5-7b').to_json()",
        "from selector import select, explain, calibrate, ModelSpec, HostSpec, Workload, Selection",
        "import selector.cli, selector.publish.publish, selector.screens.calibration.progress",
    ],
)
def test_no_engine_is_imported(code: str) -> None:
    assert imported(code, *ENGINES) == []


def test_a_prediction_imports_numpy_and_no_engine() -> None:
    code = "from tests.selector.answering import HOST; from selector import select; select('shape:gpt2', host=HOST)"
    assert imported(code, *ENGINES) == ["numpy"]


def test_a_selection_imports_none_of_the_heavy_libraries_of_ours() -> None:
    assert imported("from selector import select; select('shape:gpt2')", *OURS) == []


def test_importing_the_package_imports_nothing_of_it() -> None:
    assert imported("import selector", "selector.selection", "selector.planning.calibrate", "calibration") == []


def test_the_public_names() -> None:
    import selector

    assert all(getattr(selector, name).__name__ == name for name in selector.__all__)
    assert set(selector.__all__) <= set(dir(selector))
    with pytest.raises(AttributeError, match="module 'selector' has no attribute 'nope'"):
        _ = selector.nope

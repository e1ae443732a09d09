"""site-packages in which LMDeploy's two engines are."""

from pathlib import Path

import pytest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """site-packages with a TurboMind library that needs nothing."""
    library = tmp_path / "lmdeploy/turbomind/_turbomind.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    return tmp_path

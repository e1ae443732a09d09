"""What the files say of the installed release of LMDeploy, beside its own tables."""

from importlib.metadata import version

import pytest

from calibration.backends.pytorch import PyTorch
from calibration.backends.turbomind import TurboMind
from selector.rules.installed.releases import Releases, Spans

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]


def of(releases: Releases, table: Spans) -> set[str]:
    installed = version("lmdeploy")
    assert installed in releases.read
    return {name for name, spans in table.items() if releases.has(spans, installed)}


def test_turbomind() -> None:
    from lmdeploy.turbomind.supported_models import SUPPORTED_ARCHS

    assert TurboMind.facts.releases is not None
    releases = Releases.of(TurboMind.facts.releases)
    assert of(releases, releases.architectures) == set(SUPPORTED_ARCHS)


def test_the_pytorch_engine() -> None:
    from lmdeploy.pytorch.models.module_map import MODULE_MAP, REMOVED_MODEL_MAP

    assert PyTorch.facts.releases is not None
    releases = Releases.of(PyTorch.facts.releases)
    here = of(releases, releases.architectures)
    assert here == set(MODULE_MAP)
    removed = {name for name in releases.architectures if name not in here}
    # It was in no release since 0.6.0.
    assert set(REMOVED_MODEL_MAP) - removed == {"BaiChuanForCausalLM"}

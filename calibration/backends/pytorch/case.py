"""What the limits of LMDeploy's PyTorch engine look at."""

from dataclasses import dataclass

from calibration.backend import Model
from calibration.config_json import ConfigJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a limit looks at."""

    model: Model
    config: ConfigJson
    """config.json with the inner language model's fields over the outer ones."""
    capability: tuple[int, int] | None
    """Of the GPU; None where it is not known."""

    @property
    def quant(self) -> ConfigJson:
        """The quantization_config; empty where config.json has none."""
        return self.config.table("quantization_config")

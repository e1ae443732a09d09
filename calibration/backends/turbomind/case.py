"""What TurboMind's limits look at: a model, its config.json as TurboMind reads it, and the GPU."""

from dataclasses import dataclass

from calibration.backend import Model
from calibration.config_json import ConfigJson

Capability = tuple[int, int] | None
"""Of the GPU; None where it is not known."""

INT4 = ("awq", "gptq", "compressed-tensors")
"""Methods whose linear layers TurboMind multiplies in 4 bits."""

QWEN3_5 = frozenset(
    {
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "InternS2MobiusForConditionalGeneration",
    }
)
"""Layers of linear attention stand between those of full attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a limit looks at."""

    model: Model
    config: ConfigJson
    """config.json as TurboMind's text model sees it: the inner configuration's fields over the outer ones."""
    outer: ConfigJson
    """config.json as it is."""
    capability: Capability

    @classmethod
    def of(cls, model: Model, capability: Capability) -> "Case":
        """Read the model's config.json.

        Raises:
            UnreadableField: it is not what its names promise.
        """
        outer = ConfigJson.read(model.folder)
        return cls(model=model, config=outer.language_model(), outer=outer, capability=capability)

    @property
    def quant(self) -> ConfigJson:
        """The quantization_config; empty where config.json has none."""
        return self.config.table("quantization_config")


def dotted(capability: tuple[int, int]) -> str:
    """A compute capability as NVIDIA writes it."""
    return f"{capability[0]}.{capability[1]}"

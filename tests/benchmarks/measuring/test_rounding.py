"""The table of rounding errors: extremes with their models, and which errors a model can have."""

from benchmarks.measuring.rounding.models import MODELS, config_of
from benchmarks.measuring.rounding.rounding import errors_in, line
from calibration.check.tolerance import Rounding


def multiple(times: float) -> Rounding:
    return Rounding(median_kl=times, mean_kl=2 * times, diff=3 * times, mean_margin=0)


def test_a_row_names_the_extremes() -> None:
    assert line("openvino:fp16-sdpa", [("a", multiple(1.5)), ("b", multiple(0.25)), ("c", multiple(1))]) == (
        "openvino:fp16-sdpa               3 models  median_kl 0.25 to 1.50 (b; a)  mean_kl 0.50 to 3.00 (b; a)"
        "  diff 0.75 to 4.50 (b; a)"
    )


def test_each_model_has_the_errors_that_it_can_have() -> None:
    permuted, theta, window = "a permuted weight", "another rope theta", "a window off by one"
    assert {name: list(errors_in(config_of(name, 3))) for name in MODELS} == {
        "llama": [permuted, theta],
        "mistral": [permuted, theta, window],
        "qwen2": [permuted, theta],
        "qwen3": [permuted, theta],
        "gemma3": [permuted, theta, window],
        "helium": [permuted, theta],
        "granite-moe": [permuted, theta],
        "phi": [permuted, theta],
        "gpt2": [permuted],
    }
    assert errors_in(config_of("mistral", 3))[window].config == {"sliding_window": 17}


def test_depths_are_the_models_own_field() -> None:
    assert config_of("gpt2", 12)["n_layer"] == config_of("llama", 12)["num_hidden_layers"] == 12

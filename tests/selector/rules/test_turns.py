"""Where a rule turns, and what it says then: on the bound, one beyond it, and where a fact is not known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Variant
from calibration.measurement import Candidate
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import Device
from selector.rules.judge import Verdict, judge
from tests.selector.conftest import A100, FakeBackend, host, installation
from tests.selector.rules.judging import gpu, reasons, small


def verdict(backend: FakeBackend, model: object = None, machine: object = None, **demand: object) -> Verdict:
    return judge(model or small(), machine or host(), Demand.of(**demand), {backend.name: backend})[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("max_position", "noted"),
    [
        (0, True),  # not told: the window may be the shorter
        (1, False),
        (4095, False),
        (4096, False),  # no sequence leaves the window
        (4097, True),
    ],
)
def test_a_window_that_no_sequence_leaves_is_not_noted(max_position: int, noted: bool) -> None:
    backend = FakeBackend(windowed_architectures=frozenset({"GptOssForCausalLM"}))
    one = Workload(prompt_tokens=1, output_tokens=1)
    model = small(sliding_window=4096, window_layers=32, max_position=max_position)
    note = "right only up to 4096 tokens: it does not honour the sliding window"
    assert verdict(backend, model, workload=one).notes == ((note,) if noted else ())


def test_a_model_without_window_and_an_engine_that_honours_it_have_no_note() -> None:
    assert verdict(FakeBackend(windowed_architectures=frozenset({"GptOssForCausalLM"})), small()).notes == ()
    assert verdict(FakeBackend(), small(sliding_window=64, window_layers=32)).notes == ()


def test_what_machine_code_leaves_unused_is_noted_on_a_cpu_in_one_order() -> None:
    backend = FakeBackend(leaves_unused=frozenset({"avx512f", "amx_bf16", "avx512_vnni", "avx2", "sve"}))
    machine = host(cpu_features=frozenset({"avx2", "avx512_vnni", "amx_bf16", "avx512f"}))
    note = "its machine code leaves amx_bf16 and avx2 and avx512_vnni and avx512f of this CPU unused"
    assert verdict(backend, machine=machine).notes == (note,)
    assert verdict(backend, machine=gpu()).notes == ()


def test_what_makes_a_variant_pointless_is_said_in_one_order() -> None:
    features = frozenset({"avx512f", "amx_bf16", "avx512_vnni", "avx512_bf16"})
    backend = FakeBackend(Variant(name="fp32", precision="fp32", only_without=features))
    assert verdict(backend, machine=host(cpu_features=features)).left_out == (
        "pointless on a CPU with amx_bf16 and avx512_bf16 and avx512_vnni and avx512f (--backends fake:fp32)"
    )


@pytest.mark.parametrize(
    ("max_position", "tokens", "fits"),
    [(100, 100, True), (100, 101, False), (1, 2, False), (0, 5000, True), (-1, 5000, True)],
)
def test_prompt_and_output_are_as_long_as_the_positions_reach(max_position: int, tokens: int, fits: bool) -> None:
    workload = Workload(prompt_tokens=tokens - 1, output_tokens=1)
    assert (reasons(FakeBackend(), small(max_position=max_position), workload=workload) == []) is fits


def table_of(folder: Path, text: str | bytes, distribution: str = "fake", **facts: Any) -> FakeBackend:
    """A backend whose installed table of architectures reads so."""
    table = folder / distribution.replace("-", "_") / "table.py"
    table.parent.mkdir(parents=True)
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return FakeBackend(architectures=frozenset(), architectures_table=(distribution, "table.py"), **facts)


def with_sites(*sites: Path) -> object:
    return host(installations={"fake": installation(site_packages=sites)})


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('MODELS = ["LlamaForCausalLM"]', True),
        ("MODELS = ['LlamaForCausalLM']", True),
        ("class LlamaForCausalLM: ...", False),  # named, but not in the table
        ('MODELS = ["LlamaForCausalLMWithHead"]', False),
        ("MODELS = ['MyLlamaForCausalLM']", False),
        (b'AUTHOR = "\xff"; MODELS = ["LlamaForCausalLM"]', True),  # one byte that is no UTF-8
        ("", False),
    ],
)
def test_an_engine_knows_the_architectures_that_its_table_quotes(
    text: str | bytes, known: bool, tmp_path: Path
) -> None:
    backend = table_of(tmp_path, text)
    assert (reasons(backend, machine=with_sites(tmp_path)) == []) is known


def test_the_table_is_looked_for_in_every_folder_of_packages_under_the_name_it_is_imported_by(tmp_path: Path) -> None:
    backend = table_of(tmp_path / "second", '"LlamaForCausalLM"', distribution="fake-engine")
    machine = with_sites(tmp_path / "first", tmp_path / "second")
    assert reasons(backend, machine=machine) == []
    assert reasons(backend, small(architecture="Other"), machine) == [
        ("architecture", "needs an architecture that Fake engine knows; found Other", "")
    ]


def test_a_table_that_cannot_be_read_knows_nothing(tmp_path: Path) -> None:
    (tmp_path / "fake/table.py").mkdir(parents=True)
    backend = FakeBackend(architectures=frozenset(), architectures_table=("fake", "table.py"))
    assert reasons(backend, machine=with_sites(tmp_path)) == [
        ("architecture", "needs an architecture that Fake engine knows; found LlamaForCausalLM", "")
    ]


@pytest.mark.parametrize(
    ("engine_runs_code", "model_has_code", "known"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_an_unknown_architecture_may_bring_its_own_code(
    engine_runs_code: bool, model_has_code: bool, known: bool, tmp_path: Path
) -> None:
    backend = table_of(tmp_path, '"Other"', remote_code=engine_runs_code)
    rules = [rule for rule, _, _ in reasons(backend, small(remote_code=model_has_code), with_sites(tmp_path))]
    assert ("architecture" not in rules) is known


@pytest.mark.parametrize(
    ("architectures", "auto_architecture", "told"),
    [
        (("A", "B"), None, "A or B"),
        ((), None, "LlamaForCausalLM"),
        (("A", "B"), "C", "C"),
    ],
)
def test_every_architecture_that_was_looked_for_is_told(
    architectures: tuple[str, ...], auto_architecture: str | None, told: str
) -> None:
    backend = FakeBackend(architectures=frozenset({"Other"}), architectures_from_auto_map=True)
    model = small(architectures=architectures, auto_architecture=auto_architecture)
    assert reasons(backend, model) == [
        ("architecture", f"needs an architecture that Fake engine knows; found {told}", "")
    ]


def test_a_config_without_architecture_is_told_so() -> None:
    backend = FakeBackend(architectures=frozenset({"Other"}), architectures_from_auto_map=True)
    assert reasons(backend, small(architectures=(), architecture="")) == [
        ("architecture", "needs an architecture that Fake engine knows; found no architecture", "")
    ]


def test_one_of_several_architectures_in_the_table_is_enough(tmp_path: Path) -> None:
    backend = table_of(tmp_path, '"Second"', architectures_from_auto_map=True)
    assert reasons(backend, small(architectures=("First", "Second")), with_sites(tmp_path)) == []


@pytest.mark.parametrize(("capability", "fits"), [((7, 9), False), ((8, 0), True), ((8, 1), True)])
def test_bfloat16_needs_the_capability_and_no_more(capability: tuple[int, int], fits: bool) -> None:
    backend = FakeBackend(bf16_capability=(8, 0))
    assert (reasons(backend, machine=gpu(capability)) == []) is fits


def test_machine_code_of_another_kind_runs_nowhere() -> None:
    assert [rule for rule, _, _ in reasons(FakeBackend(machine_code=("ptx", "8x")), machine=gpu((8, 0)))] == [
        "machine_code"
    ]


@pytest.mark.parametrize(
    ("second", "same"),
    [(A100, 2), (replace(A100, name="NVIDIA H100"), 1), (replace(A100, kind="rocm"), 1)],
)
def test_tensor_parallelism_needs_devices_of_one_product(second: Device, same: int) -> None:
    machine = host(devices=(A100, second))
    text = f"needs 2 devices of one product; found {same}"
    found = reasons(FakeBackend(tensor_parallel=True), machine=machine, tensor_parallel=2)
    assert found == ([] if same == 2 else [("tensor_parallel", text, "")])


@pytest.mark.parametrize(
    ("head_dim", "unknown", "fits"),
    [(64, set(), True), (80, set(), False), (80, {"head_dim"}, True), (64, {"heads"}, True), (80, {"heads"}, False)],
)
def test_a_head_dim_that_the_config_does_not_tell_is_not_judged(head_dim: int, unknown: set[str], fits: bool) -> None:
    backend = FakeBackend(head_dims=frozenset({64, 128}))
    assert (reasons(backend, small(head_dim=head_dim, unknown=frozenset(unknown))) == []) is fits


def test_what_the_config_does_not_tell_is_noted_in_one_order_and_sizes_apart() -> None:
    names = {"vocab_size", "head_dim", "experts", "heads", "layers", "parameters", "weight_bytes"}
    assert verdict(FakeBackend(), small(unknown=frozenset(names))).notes == (
        "not told by the config: experts, head_dim, heads, layers, vocab_size (weights and KV cache counted in part)",
    )
    assert verdict(FakeBackend(), small(unknown=frozenset({"heads"}))).notes == ("not told by the config: heads",)
    assert verdict(FakeBackend(), small(unknown=frozenset({"parameters", "weight_bytes"}))).notes == ()
    assert Verdict(candidate=Candidate(backend="a", variant="b")).needed_bytes == 0

"""`select --emit PROGRAM`: what each program is given, held to what its own documents say of its format."""

import mmap
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from calibration.cache.cache import Cache
from calibration.errors import ArtifactError, ModelError, UsageError
from calibration.measurement import Candidate
from selector.emit.origin import dns_label, served_name
from selector.emit.targets import find_target, target_names
from tests.selector.answering import HOST, KEY, SDPA, answer
from tests.selector.emit.emitting import EIGHT, GPU_HOST, Choose, convert, document, emitted, hub_selection
from tests.selector.launches import served


def test_a_program_is_one_file_of_its_name() -> None:
    assert target_names() == ("compose", "kserve", "llama-server", "llama-swap", "lmdeploy", "ollama", "vllm")
    assert tuple(find_target(name).name for name in target_names()) == target_names()


def test_vllm_is_told_what_was_chosen(choose: Choose, folder: Path) -> None:
    selection = choose("vllm:eager")
    text, notes = emitted("vllm", selection)
    first, *_ = text.splitlines()
    assert first == (
        f"# vllm:eager for pp512:tg128:b8 (predicted); autobackend select '{folder}' --workload pp512:tg128:b8"
        " --emit vllm"
    )
    assert yaml.safe_load(text) == {
        "model": str(folder),
        "dtype": "bfloat16",
        "max-model-len": 640,
        "max-num-seqs": 8,
        "tensor-parallel-size": 1,
        "trust-remote-code": False,
        "kv-cache-memory-bytes": 1 << 30,
        "enforce-eager": True,
    }
    program = "OMP_NUM_THREADS=2 VLLM_CPU_OMP_THREADS_BIND=nobind python -m vllm.entrypoints.openai.api_server"
    assert notes == (f"start it: {program} --config FILE.yaml",)
    assert selection.engine_args() == {
        "model": str(folder),
        "dtype": "bfloat16",
        "max_model_len": 640,
        "max_num_seqs": 8,
        "tensor_parallel_size": 1,
        "trust_remote_code": False,
        "kv_cache_memory_bytes": 1 << 30,
        "enforce_eager": True,
    }


def test_vllm_on_a_gpu_sizes_its_own_cache(choose: Choose) -> None:
    selection = choose("vllm:compile", host=GPU_HOST)
    assert "kv_cache_memory_bytes" not in selection.engine_args()
    assert emitted("vllm", selection)[1] == ("start it: vllm serve --config FILE.yaml",)


def test_a_hub_id_stays_one(choose: Choose) -> None:
    assert document("vllm", hub_selection(choose("vllm:eager")))["model"] == "owner/Tiny-Chat"


def test_a_shape_without_weights_is_refused(choose: Choose) -> None:
    selection = choose("vllm:eager", model="shape:smollm2-135m")
    with pytest.raises(ModelError) as error:
        selection.engine_args()
    assert str(error.value) == (
        "shape:smollm2-135m has no weights yet\na calibration writes random ones: autobackend calibrate"
        " shape:smollm2-135m --workload pp512:tg128:b8 --backends vllm:eager"
    )


def test_what_is_of_another_backend_is_refused(choose: Choose, folder: Path) -> None:
    selection = choose("openvino:fp16-pa")
    with pytest.raises(UsageError) as error:
        selection.engine_args()
    assert str(error.value) == (
        "engine_args() is for vllm; openvino:fp16-pa was chosen\n"
        f'restrict the choice: select("{folder}", backend="vllm")'
    )
    with pytest.raises(UsageError, match=r"llama_server_flags\(\) is for llamacpp; openvino:fp16-pa was chosen"):
        selection.llama_server_flags()


def test_llama_server_is_told_the_converted_file_and_all_slots(choose: Choose) -> None:
    selection = choose("llamacpp:f16")
    file = convert(selection)
    flags = selection.llama_server_flags()
    assert flags == [
        *("--model", str(file), "--parallel", "8", "--ctx-size", str(768 * 8), "--batch-size", str(768 * 8)),
        *("--fit", "off", "--threads", "2", "--threads-batch", "2"),
    ]
    assert shlex.split(emitted("llama-server", selection)[0]) == flags


def test_llama_server_in_float32_computes_all_of_it_in_float32(choose: Choose) -> None:
    selection = choose("llamacpp:f32", workload="pp64:tg16:b1")
    convert(selection)
    flags = selection.llama_server_flags()
    assert flags[flags.index("--batch-size") + 1] == "2048"  # its own least
    assert flags[-6:] == ["--flash-attn", "off", "--cache-type-k", "f32", "--cache-type-v", "f32"]


def test_the_options_of_llama_server_are_its_own(choose: Choose) -> None:
    """Its table of options is compiled into xllamacpp, which parses none of them."""
    xllamacpp = pytest.importorskip("xllamacpp")
    selection = choose("llamacpp:f32")
    convert(selection)
    options = [word for word in selection.llama_server_flags() if word.startswith("--")]
    [library] = Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        unknown = [option for option in options if content.find(b"\0" + option.encode() + b"\0") < 0]
    assert (len(options), unknown) == (10, [])


@pytest.mark.parametrize("target", ["llama-server", "ollama"])
def test_what_is_not_converted_yet_is_refused(target: str, choose: Choose, folder: Path) -> None:
    with pytest.raises(ArtifactError) as error:
        find_target(target).write(choose("llamacpp:q8_0", allow_lossy=True))
    assert str(error.value) == (
        f"{folder} is not converted for llamacpp:q8_0 yet\na calibration converts it: autobackend calibrate '{folder}'"
        " --workload pp512:tg128:b8 --backends llamacpp:q8_0 --allow-lossy"
    )


def test_ollama_gets_a_modelfile(choose: Choose) -> None:
    selection = choose("llamacpp:f32")
    file = convert(selection)
    text, notes = emitted("ollama", selection)
    comment, *instructions = text.splitlines()
    assert comment.startswith("# llamacpp:f32 for ")
    assert instructions == [f"FROM {file}", "PARAMETER num_ctx 640"]
    assert notes == (
        "create it: ollama create tiny chat-1.5 -f Modelfile",
        "Ollama takes its slots from its environment: OLLAMA_NUM_PARALLEL=8",
        "llamacpp:f32 was measured with a KV cache of 32 bits; Ollama's has 16",
    )


def test_a_gguf_file_goes_as_it_is(tmp_path: Path, choose: Choose) -> None:
    selection = choose("llamacpp:gguf", workload="pp64:tg16:b1")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    quant = replace(selection.spec.quant, method="gguf")
    selection = replace(
        selection, model=str(file), spec=replace(selection.spec, name=str(file), folder=tmp_path, quant=quant)
    )
    assert selection.llama_server_flags()[:2] == ["--model", str(file)]
    assert emitted("ollama", selection)[0].splitlines()[1] == f"FROM {file}"


def test_lmdeploy_gets_the_command_of_its_server(choose: Choose) -> None:
    selection = choose("turbomind:default", host=GPU_HOST)
    text, notes = emitted("lmdeploy", selection)
    assert text == f"{selection.command()}\n"
    assert text.startswith("lmdeploy serve api_server ")
    assert len(notes) == 2
    assert len(emitted("lmdeploy", choose("pytorch:eager", host=GPU_HOST))[1]) == 1


@pytest.mark.parametrize(
    ("name", "served", "label"),
    [
        ("owner/Qwen2.5-7B", "Qwen2.5-7B", "qwen2-5-7b"),
        ("shape:gpt2", "gpt2", "gpt2"),
        ("/models/Phi 4.Q4_K_M.gguf", "Phi 4.Q4_K_M", "phi-4-q4-k-m"),
        ("./model", "model", "model"),
        ("/models/名前", "名前", "model"),
        (f"owner/{'x' * 70}", "x" * 70, "x" * 63),
    ],
)
def test_names(name: str, served: str, label: str, choose: Choose) -> None:
    selection = hub_selection(choose("openvino:fp16-pa"), name)
    assert (served_name(selection), dns_label(served_name(selection))) == (served, label)


def test_a_load_is_served_as_it_was_measured(cache: Cache) -> None:
    """With the slots and threads that did best under it: where the server runs, nobody knows them."""
    load = "pp64-96:tg32:c8"
    selection = answer(cache, served(SDPA, KEY, HOST, {load: 240.0}, slots=6, threads=1), workload=load)
    assert selection.candidate.label == SDPA
    [entry] = document("llama-swap", selection)["models"].values()
    assert entry["cmd"].endswith(" --slots 6 --threads 1 --port ${PORT}")
    llama = replace(selection, candidate=Candidate(backend="llamacpp", variant="f16"))
    convert(llama)
    flags = llama.llama_server_flags()
    # It was not measured: all cores, and a slot for each stream of the longest sequences.
    assert flags[2:10] == ["--parallel", "8", "--ctx-size", str(256 * 8), "--batch-size", "2048", "--fit", "off"]
    assert flags[-1] == "2"


def test_a_demand_is_asked_for_again(choose: Choose) -> None:
    selection = choose("openvino:int8-pa", max_kl=0.1, trust_remote_code=True)
    [entry] = document("llama-swap", selection)["models"].values()
    assert " --backends openvino:int8-pa --max-kl 0.1 --trust-remote-code " in entry["cmd"]
    assert EIGHT.label in entry["cmd"]

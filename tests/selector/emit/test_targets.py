"""`select --emit PROGRAM`: what each program is given, held to what its own documents say of its format."""

import mmap
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from calibration.cache.cache import Cache
from calibration.errors import ArtifactError, ModelError, UsageError
from calibration.measurement import Candidate
from selector.answer import Selection
from selector.cli import main
from selector.emit.origin import dns_label, served_name
from selector.emit.targets import find_target, target_names
from selector.host.spec import HostSpec
from tests.selector.answering import HOST, KEY, SDPA, answer
from tests.selector.conftest import A100
from tests.selector.emit.emitting import EIGHT, chosen, convert, model_folder
from tests.selector.launches import served

GPU_HOST = replace(HOST, devices=(A100,))

Choose = Callable[..., Selection]


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOBACKEND_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "Tiny Chat-1.5")


@pytest.fixture
def choose(folder: Path, cache: Cache) -> Choose:
    """choose(label, host=..., model=...) -> a selection of the folder whose answer is that candidate."""

    def made(label: str, *, model: Path | str = folder, host: HostSpec = HOST, **asked: Any) -> Selection:
        return chosen(model, label, cache, host=host, **asked)

    return made


def emitted(target: str, selection: Selection) -> tuple[str, tuple[str, ...]]:
    written = find_target(target).write(selection)
    return written.text, written.notes


def document(target: str, selection: Selection) -> Any:
    return yaml.safe_load(emitted(target, selection)[0])


def hub_selection(selection: Selection, name: str = "owner/Tiny-Chat") -> Selection:
    """The same for a model of the hub, which is read from a snapshot there."""
    return replace(selection, model=name, spec=replace(selection.spec, name=name))


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


def test_llama_swap_starts_autobackend_at_its_port(choose: Choose, folder: Path) -> None:
    """config-schema.json: `models` is an object by id; `cmd` a text; `name` at most 128 characters."""
    text, notes = emitted("llama-swap", choose("openvino:fp16-pa", workload="pp512:tg128:b16", price_per_hour=2.0))
    entry = yaml.safe_load(text)["models"]["Tiny Chat-1.5"]
    assert entry == {
        "cmd": f"autobackend serve '{folder}' --workload pp512:tg128:b16 --backends openvino:fp16-pa"
        " --served-model-name 'Tiny Chat-1.5' --port ${PORT}",
        "name": "Tiny Chat-1.5 (openvino:fp16-pa)",
        "concurrencyLimit": 16,
    }
    assert "healthCheckTimeout" in notes[0]
    assert "concurrencyLimit" not in document("llama-swap", choose("openvino:fp16-pa"))["models"]["Tiny Chat-1.5"]


def test_compose_runs_autobackend_with_the_model_mounted(choose: Choose, folder: Path) -> None:
    text, notes = emitted("compose", choose("openvino:fp16-pa"))
    content = yaml.safe_load(text)
    service = content["services"]["tiny-chat-1-5"]
    assert content["volumes"] == {"autobackend": {}}
    assert service["command"] == shlex.split(
        "autobackend serve /model --workload pp512:tg128:b8 --backends openvino:fp16-pa"
        " --served-model-name 'Tiny Chat-1.5' --host 0.0.0.0 --port 8000"
    )
    assert service["volumes"][1] == {"type": "bind", "source": str(folder), "target": "/model", "read_only": True}
    assert service["environment"]["AUTOBACKEND_API_KEY"] == "${AUTOBACKEND_API_KEY:?the key that requests must know}"
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert "deploy" not in service
    assert notes == ("set IMAGE to an image of yours with autobackend and openvino, and AUTOBACKEND_API_KEY",)


def test_compose_reserves_gpus_and_mounts_nothing_of_the_hubs(choose: Choose) -> None:
    selection = hub_selection(choose("vllm:compile", host=GPU_HOST))
    service = document("compose", selection)["services"]["tiny-chat"]
    assert service["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]
    assert service["command"][2] == "owner/Tiny-Chat"
    assert [volume["type"] for volume in service["volumes"]] == ["volume"]


def test_compose_takes_a_dollar_for_a_variable(tmp_path: Path, cache: Cache) -> None:
    folder = model_folder(tmp_path / "A$B")
    service = document("compose", chosen(folder, "openvino:fp16-pa", cache))["services"]["a-b"]
    assert service["volumes"][1]["source"] == f"{tmp_path}/A$$B"
    assert service["command"][service["command"].index("--served-model-name") + 1] == "A$$B"


@pytest.mark.parametrize("label", ["openvino:fp16-pa", "vllm:eager"])
def test_compose_keeps_to_the_compose_specification(label: str, choose: Choose, tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(emitted("compose", choose(label))[0])
    assert against_the_compose_specification(file) == (0, "ok -- validation done\n")
    file.write_text(file.read_text().replace("ports:", "portz:"))
    code, said = against_the_compose_specification(file)
    assert code == 1
    assert "'portz' was unexpected" in said


def against_the_compose_specification(file: Path) -> tuple[int, str]:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    return checked.returncode, checked.stdout + checked.stderr


@pytest.mark.parametrize("label", ["openvino:fp16-pa", "vllm:eager"])
def test_docker_compose_reads_it(label: str, choose: Choose, tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no docker compose")
    file = tmp_path / "compose.yaml"
    file.write_text(emitted("compose", choose(label))[0])
    words = [docker, "compose", "--file", str(file), "config", "--quiet"]
    variables = {"PATH": "/usr/bin:/bin", "IMAGE": "image", "AUTOBACKEND_API_KEY": "key"}
    read = subprocess.run(words, capture_output=True, text=True, env=variables, check=False)
    assert read.returncode == 0, read.stderr


def test_kserve_runs_autobackend_in_a_container_of_the_users(choose: Choose) -> None:
    text, notes = emitted("kserve", hub_selection(choose("openvino:fp16-pa")))
    content = yaml.safe_load(text)
    assert (content["apiVersion"], content["kind"], content["metadata"]) == (
        "serving.kserve.io/v1beta1", "InferenceService", {"name": "tiny-chat"},
    )  # fmt: skip
    predictor = content["spec"]["predictor"]
    [container] = predictor["containers"]
    assert (container["name"], container["command"], container["args"][:2]) == (
        "kserve-container", ["autobackend"], ["serve", "/mnt/models"],
    )  # fmt: skip
    assert container["args"][-4:] == ["--host", "0.0.0.0", "--port", "8080"]
    assert container["env"] == [
        {"name": "STORAGE_URI", "value": "hf://owner/Tiny-Chat"},
        {
            "name": "AUTOBACKEND_API_KEY",
            "valueFrom": {"secretKeyRef": {"name": "tiny-chat", "key": "AUTOBACKEND_API_KEY"}},
        },
    ]
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": 8080}
    assert container["resources"]["limits"] == {"cpu": "2"}
    assert re.fullmatch(r"\dGi", container["resources"]["requests"]["memory"])
    assert predictor["terminationGracePeriodSeconds"] == 40
    assert "kubectl create secret generic tiny-chat" in notes[1]


def test_kserve_runs_vllm_in_its_own_runtime(choose: Choose) -> None:
    selection = hub_selection(choose("vllm:eager", host=GPU_HOST))
    text, notes = emitted("kserve", selection)
    assert yaml.safe_load(text)["spec"]["predictor"] == {
        "model": {
            "modelFormat": {"name": "huggingface"},
            "args": [
                "--model_name=Tiny-Chat", "--model_dir=/mnt/models", "--backend=vllm", "--dtype=bfloat16",
                "--max-model-len=640", "--max-num-seqs=8", "--tensor-parallel-size=1", "--enforce-eager",
            ],
            "storageUri": "hf://owner/Tiny-Chat",
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        }
    }  # fmt: skip
    assert notes == ("KServe's runtime brings a vLLM of its own version",)


@pytest.mark.parametrize("model", ["folder", "shape:smollm2-135m"])
def test_a_cluster_cannot_fetch_what_is_not_on_the_hub(model: str, choose: Choose, folder: Path) -> None:
    selection = choose("openvino:fp16-pa", model=folder if model == "folder" else model)
    with pytest.raises(ModelError) as error:
        find_target("kserve").write(selection)
    what = str(folder) if model == "folder" else model
    assert error.value.message == f"a cluster cannot fetch {what}; KServe's manifest is for a hub id"


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


@pytest.mark.parametrize("target", ["llama-swap", "compose", "kserve"])
@pytest.mark.parametrize("label", ["openvino:int8-pa", "llamacpp:f16"])
def test_autobackend_serve_takes_the_words(target: str, label: str, choose: Choose) -> None:
    selection = choose(label, max_kl=0.1, ttft_s=0.5, trust_remote_code=True)
    content = document(target, hub_selection(selection))
    match target:
        case "llama-swap":
            words = shlex.split(content["models"]["Tiny-Chat"]["cmd"].replace("${PORT}", "5800"))
        case "compose":
            words = content["services"]["tiny-chat"]["command"]
        case _:
            [container] = content["spec"]["predictor"]["containers"]
            words = [*container["command"], *container["args"]]
    program, command, *rest = words
    serve = main.get_command(click.Context(main), command)
    assert program == "autobackend" and serve is not None
    # What `serve` would be called with; `demand` is made of the options of a demand when it is.
    told = serve.make_context("serve", rest).params
    assert (told["names"], told["backends"], told["max_kl"], told["ttft_s"]) == (("Tiny-Chat",), (label,), 0.1, 0.5)
    assert (told["host"], told["port"]) == {
        "llama-swap": ("127.0.0.1", 5800), "compose": ("0.0.0.0", 8000), "kserve": ("0.0.0.0", 8080),
    }[target]  # fmt: skip


def test_a_demand_is_asked_for_again(choose: Choose) -> None:
    selection = choose("openvino:int8-pa", max_kl=0.1, trust_remote_code=True)
    [entry] = document("llama-swap", selection)["models"].values()
    assert " --backends openvino:int8-pa --max-kl 0.1 --trust-remote-code " in entry["cmd"]
    assert EIGHT.label in entry["cmd"]

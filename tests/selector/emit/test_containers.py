"""Programs that run autobackend in a container or as a program of theirs: compose, llama-swap and KServe."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from calibration.cache.cache import Cache
from calibration.errors import ModelError
from selector.cli import main
from selector.emit.targets import find_target
from tests.selector.emit.emitting import GPU_HOST, Choose, chosen, document, emitted, hub_selection, model_folder


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

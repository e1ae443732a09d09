"""KServe: an InferenceService.

vLLM is run by KServe's own Hugging Face runtime; every other backend by a container of the user's with
`autobackend serve`. The fields stand in https://github.com/kserve/website, docs/model-serving: hf://, --model_name and
--model_dir in storage/providers/hf.md, the name of the container, STORAGE_URI and /mnt/models in
predictive-inference/frameworks/custom-predictor/custom-predictor.md. That the runtime takes vLLM's options stands in
https://github.com/kserve/kserve, python/huggingfaceserver/huggingfaceserver/vllm/utils.py.
"""

from typing import Any

from calibration.errors import ModelError
from selector.answer import Selection
from selector.emit.origin import dns_label, origin, served_name
from selector.emit.serve_words import ANYWHERE, KEY, STOP_S, serve_words, whole_path
from selector.emit.target import Emitted, Target
from selector.emit.yaml_text import yaml_text

PORT = 8080
MODELS = "/mnt/models"
"""Where KServe puts what the storage URI names."""
_GPUS = {"cuda": "nvidia.com/gpu", "rocm": "amd.com/gpu"}
"""What the device plugins of NVIDIA and AMD call a GPU."""
_GIB = 1 << 30


def _write(selection: Selection) -> Emitted:
    name, storage = dns_label(served_name(selection)), _storage(selection)
    if selection.backend == "vllm":
        predictor: dict[str, Any] = {"model": _runtime(selection, storage)}
        notes = ["KServe's runtime brings a vLLM of its own version"]
    else:
        container = _container(selection, storage, name)
        predictor = {"containers": [container], "terminationGracePeriodSeconds": STOP_S}
        notes = [
            f"replace IMAGE by an image of yours with autobackend and {selection.backend}",
            f"make the key that requests must know: kubectl create secret generic {name} --from-literal={KEY}=...",
        ]
    kind = selection.host.device.kind
    if kind != "cpu" and kind not in _GPUS:
        notes.append(f"add the resource that your cluster calls a device of kind {kind}")
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    }
    return Emitted(text=origin(selection, TARGET.name) + yaml_text(content), notes=tuple(notes))


def _storage(selection: Selection) -> str:
    """Where the cluster fetches the model.

    Raises:
        ModelError: it cannot fetch it.
    """
    place = whole_path(selection)
    if place is None and not selection.model.startswith("shape:"):
        return f"hf://{selection.model}"
    raise ModelError(
        f"a cluster cannot fetch {place or selection.model}; KServe's manifest is for a hub id",
        "name the model by its hub id, or let Docker Compose mount it: --emit compose",
    )


def _runtime(selection: Selection, storage: str) -> dict[str, Any]:
    """KServe's own runtime with vLLM."""
    words = [f"--model_name={served_name(selection)}", f"--model_dir={MODELS}", "--backend=vllm"]
    for name, value in selection.engine_args().items():
        option = f"--{name.replace('_', '-')}"
        if name != "model" and value is not False:
            words.append(option if value is True else f"{option}={value}")
    return {
        "modelFormat": {"name": "huggingface"},
        "args": words,
        "storageUri": storage,
        "resources": _resources(selection),
    }


def _container(selection: Selection, storage: str, name: str) -> dict[str, Any]:
    program, *words = serve_words(selection, model=MODELS, host=ANYWHERE, port=str(PORT))
    return {
        "name": "kserve-container",
        "image": "IMAGE",
        "command": [program],
        "args": words,
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "env": [
            {"name": "STORAGE_URI", "value": storage},
            {"name": KEY, "valueFrom": {"secretKeyRef": {"name": name, "key": KEY}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 5},
        "resources": _resources(selection),
    }


def _resources(selection: Selection) -> dict[str, Any]:
    """On a CPU its cores, and memory for what the rules count; else the GPUs that run the model together."""
    host = selection.host
    if host.device.kind == "cpu":
        verdict = next(v for v in selection.verdicts if v.candidate == selection.candidate)
        cores = {"cpu": str(host.cores)}
        return {"requests": {**cores, "memory": f"{-(-verdict.needed_bytes // _GIB)}Gi"}, "limits": cores}
    gpus = {_GPUS[host.device.kind]: str(selection.demand.tensor_parallel)} if host.device.kind in _GPUS else {}
    return {"limits": gpus}


TARGET = Target(name="kserve", program="KServe", what="an InferenceService", write=_write)

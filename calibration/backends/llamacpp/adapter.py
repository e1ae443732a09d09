"""llama.cpp: llama-server inside this process (xllamacpp), on GGUF files that are given or converted."""

import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from calibration.backend import (
    Backend,
    Deployment,
    Device,
    Engine,
    Facts,
    Job,
    Model,
    PrepareMemory,
    PrepareTime,
    Variant,
)
from calibration.backends.llamacpp import own_server
from calibration.backends.llamacpp.architectures import ARCHITECTURES, IN_FILES, RELEASES, TRIED, WRONG
from calibration.backends.llamacpp.engine import LlamaServer
from calibration.backends.llamacpp.formats import QUANTS
from calibration.backends.llamacpp.gguf_files.export import PLAIN, SOURCE_FILES, convert
from calibration.backends.llamacpp.gguf_files.quantise import quantise
from calibration.backends.llamacpp.limits.given import ROPE_TYPES, WINDOWED
from calibration.backends.llamacpp.limits.limits import limits
from calibration.backends.llamacpp.memory import SERVING_MEMORY
from calibration.backends.llamacpp.table import knows
from calibration.engine.server import OwnServer, ServerPlace


class LlamaCppBackend(Backend):
    """xllamacpp.Server, asked over a port of this host that only this process knows the key of."""

    name = "llamacpp"
    facts = Facts(
        title="llama.cpp",
        url="https://github.com/ggml-org/llama.cpp",
        package="xllamacpp",
        requires=("xllamacpp>=2026.10",),
        prepare_time=PrepareTime(s_per_gib=15.0),
        # The converter reads tensor by tensor, and holds the largest one in several dtypes; quantising maps its source.
        # One line for all types but f16: 1 % too little at most, and 40 % too much for f32 of the smallest model.
        # To f16 two models whose largest matrix has 25 and 67 M weights took 369 and 640 MiB; of a third one with 15 M
        # their line said 308 MiB, and it took 304.
        prepare_memory={
            "f16": PrepareMemory(start_bytes=210 << 20, per_parameter=0.05, per_embedding=6.45),
            **dict.fromkeys(
                ("bf16", "f32", "q8_0", "q4_0", "q4_k_m"),
                PrepareMemory(start_bytes=260 << 20, per_parameter=0.05, per_embedding=8.1),
            ),
        },
        install="autobackend backends install llamacpp",
        # The wheel on PyPI computes on the CPU; those for CUDA, ROCm and Vulkan are in an index of their own (README of
        # xllamacpp, "Installation").
        devices=frozenset({"cpu"}),
        prepare_requires=("gguf>=0.17", "numpy", "sentencepiece", "torch>=2.4", "transformers>=5"),
        source_files=SOURCE_FILES,
        cpu_features=frozenset({"avx2"}),
        leaves_unused=frozenset({"avx512f"}),
        batching="continuous",
        architectures=ARCHITECTURES,
        tried=TRIED | IN_FILES,
        wrong_architectures=WRONG,
        releases=RELEASES,
        quants=QUANTS,
        dtypes={"cpu": frozenset({"float32", "float16", "bfloat16"})},
        rope_types=ROPE_TYPES,
        windowed_architectures=WINDOWED,
        serving_memory=SERVING_MEMORY,
        order=25,
        sources=(
            "xllamacpp 2026.10.11549: get_system_info(), Server",
            "xllamacpp 2026.10.11549 (sdist) thirdparty/llama.cpp/conversion/__init__.py (TEXT_MODEL_MAP)",
            "llama.cpp src/llama-quant.cpp (llama_tensor_get_type, tensor_type_fallback)",
        ),
    )
    variants = (
        Variant(name="f16", precision="fp16", prepares=True),
        Variant(name="bf16", precision="bf16", prepares=True),
        Variant(name="f32", precision="fp32", prepares=True),
        Variant(name="q8_0", precision="int8", lossy=True, prepares=True),
        Variant(name="q4_0", precision="int4", lossy=True, prepares=True),
        Variant(name="q4_k_m", precision="int4", lossy=True, prepares=True),
        Variant(name="gguf", as_is=True),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Also: 16-bit files only of models that they hold exactly, and what converter or graph take for given."""
        if variant.as_is:
            return []
        return limits(model, variant.name)

    def knows(self, architecture: str, python: Path) -> bool | None:
        """By the tables of the converter, which belongs to the installed library, and of its loader."""
        return knows(python, architecture)

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Write model.gguf; what is quantised is converted in the checkpoint's own dtype first."""
        name = job.variant.name
        file = destination / "model.gguf"
        if name in PLAIN:
            convert(job.model_dir, file, name, say)
            return
        with tempfile.TemporaryDirectory(dir=destination, prefix="unquantised-") as scratch:
            plain = Path(scratch) / "model.gguf"
            convert(job.model_dir, plain, {"float16": "f16", "bfloat16": "bf16"}.get(job.dtype, "f32"), say)
            say(f"llamacpp: quantising to {name}")
            quantise(plain, file, name, job.threads)

    def load(self, job: Job) -> Engine:
        """Start a server on the file.

        Raises:
            RuntimeError: llama.cpp cannot load it; its reason is on stderr.
        """
        import xllamacpp

        file = job.model_dir
        if not job.variant.as_is:
            assert job.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
            file = job.artifact_dir / "model.gguf"
        key = secrets.token_hex()
        params = _settings(job.variant, str(file), job.max_context_tokens, job.max_batch)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job.threads
        params.port = 0  # any that is free
        params.api_keys = [key]
        params.n_threads_http = 1
        # Warnings and errors: it writes ten lines a request otherwise.
        params.verbosity = 2
        server = xllamacpp.Server(params)
        if threading.current_thread() is threading.main_thread():
            # It takes over the signals that Python answers with KeyboardInterrupt.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.getsignal(number) or signal.SIG_DFL)
        return LlamaServer(server, key, job.vocab_size)

    def own_server(self, variant: Variant, deployment: Deployment, place: ServerPlace) -> OwnServer:
        """llama-server in a process of its own; see own_server.py. What is converted must have been converted."""
        words = [own_server.__file__, _file(variant, deployment), "--host", place.host, "--port", str(place.port)]
        words += ["--name", place.served_name, "--slots", str(place.slots), "--context", str(place.context_tokens)]
        words += ["--threads", str(place.threads), *(["--float32"] if _in_float32(variant) else [])]
        return OwnServer(
            argv=tuple(words),
            variables={own_server.KEY_VARIABLE: place.key} if place.key else {},
            whole_path="/completion",
            fields={"cache_prompt": False, "reasoning_format": "none"},
            # As it was timed. Its own defaults draw from 40 tokens, and of those from the likelier ones.
            greedy={"temperature": 0, "top_k": 1, "samplers": ["top_k"]},
            sampled={"samplers": ["temperature", "top_p"]},
            # Of a token whose text ends within a character its stream tells neither id nor probability.
            parameters=frozenset({"temperature", "top_p", "seed", "stop"}),
        )

    def engine_config(self, variant: Variant, deployment: Deployment) -> Any:
        """An xllamacpp.CommonParams with a slot for each sequence of the workload.

        Its model.path is that of a .gguf file; of another model it is for the user to fill in.
        """
        path, workload = deployment.place, deployment.demand.workload
        return _settings(variant, path if path.endswith(".gguf") else "", workload.context_tokens, workload.batch)

    def settings(self, variant: Variant, deployment: Deployment) -> Mapping[str, Any]:
        """Options of the program llama-server without their dashes; a slot for each sequence of the workload."""
        workload = deployment.demand.workload
        tokens = own_server.slot_tokens(workload.context_tokens) * workload.batch
        chosen: dict[str, Any] = {
            "model": _file(variant, deployment),
            "parallel": workload.batch,
            "ctx-size": tokens,
            "batch-size": max(_DEFAULT_BATCH_TOKENS, tokens),
            "fit": "off",
        }
        if deployment.threads:
            chosen |= {"threads": deployment.threads, "threads-batch": deployment.threads}
        if _in_float32(variant):
            chosen |= {"flash-attn": "off", "cache-type-k": "f32", "cache-type-v": "f32"}
        return chosen


_DEFAULT_BATCH_TOKENS = 2048
"""llama-server's own --batch-size (llama.cpp tools/server/README.md)."""


def _file(variant: Variant, deployment: Deployment) -> str:
    """The .gguf file that is loaded."""
    if variant.as_is:
        return deployment.place
    assert deployment.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
    return f"{deployment.artifact_dir}/model.gguf"


def _in_float32(variant: Variant) -> bool:
    """Whether KV cache and attention are in float32, too."""
    return variant.name == "f32"


def _settings(variant: Variant, file: str, context_tokens: int, batch: int) -> Any:
    return own_server.settings(file, slots=batch, context_tokens=context_tokens, float32=_in_float32(variant))

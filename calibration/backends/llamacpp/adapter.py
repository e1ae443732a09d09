"""llama.cpp: llama-server inside this process (xllamacpp), on GGUF files that are given or converted."""

import http.client
import json
import secrets
import signal
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.backend import (
    Backend,
    Deployment,
    Device,
    Engine,
    Facts,
    Generation,
    Job,
    Model,
    PrepareMemory,
    PrepareTime,
    QuantFact,
    Rows,
    Variant,
)
from calibration.backends.llamacpp import export as gguf_export
from calibration.backends.llamacpp import own_server
from calibration.backends.llamacpp.architectures import ARCHITECTURES, IN_FILES, RELEASES, TRIED, WRONG
from calibration.backends.llamacpp.dequantised import DEQUANTISED
from calibration.backends.llamacpp.export import PLAIN, SOURCE_FILES
from calibration.backends.llamacpp.given import WINDOWED
from calibration.backends.llamacpp.limits import FORMATS, ROPE_TYPES, limits
from calibration.backends.llamacpp.memory import SERVING_MEMORY
from calibration.backends.llamacpp.table import knows
from calibration.server import OwnServer, ServerPlace


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
        # One line for all types: 1 % too little at most, and 40 % too much for f32 of the smallest model.
        prepare_memory=dict.fromkeys(
            ("f16", "bf16", "f32", "q8_0", "q4_0", "q4_k_m"),
            PrepareMemory(start_bytes=260 << 20, per_parameter=0.05, per_embedding=8.1),
        ),
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
        quants=(
            QuantFact(method="gguf", formats=FORMATS, source="llama.cpp include/llama.h (enum llama_ftype)"),
            *DEQUANTISED,
        ),
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
            gguf_export.convert(job.model_dir, file, name, say)
            return
        with tempfile.TemporaryDirectory(dir=destination, prefix="unquantised-") as scratch:
            plain = Path(scratch) / "model.gguf"
            gguf_export.convert(job.model_dir, plain, {"float16": "f16", "bfloat16": "bf16"}.get(job.dtype, "f32"), say)
            say(f"llamacpp: quantising to {name}")
            gguf_export.quantise(plain, file, name, job.threads)

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
        return _Server(server, key, job.vocab_size)

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


_MOST_SCORED = 1 << 12
"""Scores come as JSON, 7 microseconds of CPU time each: of a larger vocabulary those of the best tokens are enough."""


class _Server(Engine):
    """A running llama-server.

    Its stream holds back tokens whose text ends within a character and tells neither their ids nor their times, so
    answers are asked for whole and the server's own clock tells when the first token was there.

    Args:
        server: xllamacpp.Server.
        key: what it answers to.
        vocab_size: the model's.
    """

    scores_its_steps = True

    def __init__(self, server: Any, key: str, vocab_size: int) -> None:
        self._server = server
        self._address = server.listening_address.removeprefix("http://")
        self._key = key
        self._vocab_size = vocab_size
        self._harmless: int | None = None
        # A server that is closed before its loop has begun waits for ever: the first answer shows that it has.
        self._ask({"prompt": [0], "n_predict": 1, "cache_prompt": False})

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """One request with all prompts: each gets a slot, and all start together.

        Should a path meet a token that ends sequences, the batch is timed anew with those forbidden, and the path goes
        on behind it alone.
        """
        answers, arrivals = self._timed(prompts, new_tokens, ignore_eos=False)
        paths = [list(answer["tokens"]) for answer in answers]
        if any(len(path) < new_tokens for path in paths):
            _, arrivals = self._timed(prompts, new_tokens, ignore_eos=True)
            for prompt, path in zip(prompts, paths, strict=True):
                self._go_on(prompt, path, new_tokens)
        return Generation(tokens=tuple(map(tuple, paths)), arrivals=arrivals)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        """Log-probabilities; each token is decoded on the cache of those before it."""
        return [
            self._next_scores([*prompt, *continuation[:given]], cached=given > 0)
            for given in range(len(continuation) + 1)
        ]

    def close(self) -> None:
        self._server = None

    def _go_on(self, prompt: Sequence[int], path: list[int], new_tokens: int) -> None:
        """Add to a path that met an end until it has `new_tokens`."""
        while len(path) < new_tokens:
            [more], _ = self._timed([[*prompt, *path]], new_tokens - len(path), ignore_eos=False)
            if not more["tokens"]:
                return
            path.extend(more["tokens"])

    def _timed(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, *, ignore_eos: bool
    ) -> tuple[list[Any], tuple[tuple[float, ...], ...]]:
        """The answers in the order of the prompts, and arrivals [batch, new_tokens].

        All slots start together: the one that takes longest ends when the answer comes, and by the server's figures the
        others' first and last tokens came so much before. Those between are spread evenly.
        """
        began = time.perf_counter()
        answers = self._ask(
            {
                "prompt": [list(prompt) for prompt in prompts],
                "n_predict": new_tokens,
                "ignore_eos": ignore_eos,
                "cache_prompt": False,
                "return_tokens": True,
            }
        )
        end = time.perf_counter() - began
        answers = sorted(answers if isinstance(answers, list) else [answers], key=lambda a: int(a["index"]))
        decode_s = [answer["timings"]["predicted_ms"] / 1e3 for answer in answers]
        busy_s = [
            answer["timings"]["prompt_ms"] / 1e3 + decode for answer, decode in zip(answers, decode_s, strict=True)
        ]
        arrivals = []
        for decode, busy in zip(decode_s, busy_s, strict=True):
            last = end - (max(busy_s) - busy)
            step = decode / max(1, new_tokens - 1)
            arrivals.append(tuple(last - step * left for left in reversed(range(new_tokens))))
        return answers, tuple(arrivals)

    def _next_scores(self, tokens: Sequence[int], *, cached: bool) -> "array[float]":
        """Log-probabilities [vocab] of the token after `tokens`, before any sampling; -inf beyond the best ones."""
        tried = range(self._vocab_size) if self._harmless is None else (self._harmless,)
        for forced in tried:
            # A token whose text is no whole character comes without probabilities: one that has some is forced.
            answer = self._ask(
                {
                    "prompt": list(tokens),
                    "n_predict": 1,
                    "n_probs": min(self._vocab_size, _MOST_SCORED),
                    "post_sampling_probs": False,
                    "logit_bias": [[forced, 1e4]],
                    "id_slot": 0,
                    "cache_prompt": cached,
                }
            )
            if probabilities := answer.get("completion_probabilities"):
                self._harmless = forced
                row = array("f", [float("-inf")]) * self._vocab_size
                for scored in probabilities[0]["top_logprobs"]:
                    row[scored["id"]] = scored["logprob"]
                return row
        raise RuntimeError("llama-server gave no probabilities for any token")

    def _ask(self, request: dict[str, Any]) -> Any:
        """POST /completion.

        Raises:
            RuntimeError: the server's own reason.
        """
        body = json.dumps({"temperature": 0.0, "top_k": 1, "samplers": ["top_k"], **request})
        connection = http.client.HTTPConnection(self._address)
        try:
            connection.request(
                "POST",
                "/completion",
                body.encode(),
                {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
            )
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RuntimeError(f"llama-server: {answer['error'].get('message', answer['error'])}")
        return answer

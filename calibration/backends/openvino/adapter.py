"""OpenVINO GenAI: a graph traced from a transformers model, run by Intel's CPU plugin with either of its schedulers."""

from collections.abc import Callable
from functools import partial
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
from calibration.backends.openvino.architectures import TABLE, TRIED, WRONG
from calibration.backends.openvino.engine import CurrentPipeline, PipelineEngine
from calibration.backends.openvino.graph_limits import GRAPH_LIMITS
from calibration.backends.openvino.limit import beyond
from calibration.backends.openvino.memory import COMPUTES_IN_16_BITS, SCALED_EMBEDDINGS, SERVING_MEMORY
from calibration.backends.openvino.paged_limits import PAGED_LIMITS
from calibration.backends.openvino.streams import PagedStreams, StatefulStreams
from calibration.engine.streams import Streams

_GGUF_ARCHITECTURES = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""Those of the reader (src/cpp/src/gguf_utils of openvino.genai)."""
_GGUF_FORMATS = frozenset({"f16", "q4_0", "q8_0"})
"""Of Q4_1 it rounds each group's least value to a whole number of steps (make_int4_weights): another model."""

_GRAPH = "openvino_model.xml"


def _variant(name: str, precision: str, scheduler: str, **more: Any) -> Variant:
    options: dict[str, Any] = {"ATTENTION_BACKEND": scheduler}
    if precision == "fp32":
        options["KV_CACHE_PRECISION"] = options["INFERENCE_PRECISION_HINT"] = "f32"
    elif precision in {"fp16", "model"} or scheduler == "SDPA":
        # The default, u8, is lossy; and without paging it answers the first batch that is larger than those before it
        # wrongly, from the second token on (2026.4.1: small random models, one prompt, then two).
        options["KV_CACHE_PRECISION"] = "f16"
    batching = "continuous" if scheduler == "PA" else "static"
    return Variant(name=name, precision=precision, options=options, batching=batching, **more)


def _prepare_memory(**more: float) -> PrepareMemory:
    return PrepareMemory(start_bytes=368 << 20, per_layer_bytes=int(7.8 * (1 << 20)), per_own_embedding=6.0, **more)


class OpenVinoBackend(Backend):
    """openvino_genai.LLMPipeline on a graph that openvino_export traced."""

    name = "openvino"
    facts = Facts(
        title="OpenVINO GenAI",
        url="https://github.com/openvinotoolkit/openvino.genai",
        package="openvino-genai",
        requires=("openvino-genai>=2026.1", "openvino>=2026.1", "numpy>=1.26"),
        # 5.4 is the first that tells a mask how many queries there are (masking_utils.py, sdpa_mask): 5.0 and 5.3 tell
        # positions instead, which attention.py does not take.
        prepare_requires=("nncf>=3", "torch>=2.4", "transformers>=5.4"),
        # Tracing 26 to 32 layers takes most of the start: models of 0.1 to 8 B took 14 to 94 s.
        prepare_time=PrepareTime(start_s=13.0, s_per_gib=6.0),
        # 2: rotations of neighbours are looked up; weights of 16 bits stay as they are. 3: masks are the model's own.
        # 4: positions are the graph's input; inputs of convolutions and keys of indexers are state of the graph.
        prepare_revision=4,
        # The model in float32, of which the graph holds the weights; those that are compressed besides. Of a float32
        # checkpoint the weights stay in its file, and it is less: gpt2 takes 0.7 of what this says.
        prepare_memory={
            # Experts are stacked while they are read, in 16 bits, and then widened: an OLMoE of 0.3 B parameters held
            # 2609 MiB for int4, of which 1985 are its weights in float32 and the embeddings.
            "fp32": PrepareMemory(
                start_bytes=532 << 20, per_parameter=4.01, per_embedding=1.7, per_expert_parameter=2.9
            ),
            "fp16": PrepareMemory(
                start_bytes=532 << 20, per_parameter=4.01, per_embedding=1.7, per_expert_parameter=2.9
            ),
            "int8": PrepareMemory(
                start_bytes=517 << 20, per_parameter=4.39, per_embedding=4.0, per_expert_parameter=2.9
            ),
            "int4": PrepareMemory(
                start_bytes=512 << 20, per_parameter=4.1, per_embedding=4.73, per_expert_parameter=2.9
            ),
        },
        # 16-bit weights stay in their file (openvino/frontend/pytorch/patch_model.py): fp16 took 446, 501 and 493 MiB
        # of models of 0.09 to 1.2 B parameters with 10, 14 and 16 layers, whose nodes are what grows. An embedding that
        # scales what it looks up is no torch.nn.Embedding, and is float32 meanwhile. What is compressed is held
        # until it is written, beside copies of the largest matrix: of 0.16 B parameters int4 took 747 MiB.
        prepare_memory_of_16_bits={
            "fp16": _prepare_memory(per_parameter=0.0, per_embedding=0.0),
            "int8": _prepare_memory(per_parameter=1.0, per_embedding=7.5),
            "int4": _prepare_memory(per_parameter=0.56, per_embedding=7.5),
        },
        own_embeddings=SCALED_EMBEDDINGS,
        install="autobackend backends install openvino",
        # Its GPU plugin is for Intel's GPUs, which accelerators.py does not look for.
        devices=frozenset({"cpu"}),
        batching="continuous",
        architectures_table=TABLE,
        # What is traced is what AutoModelForCausalLM builds, and of it what ids alone run through.
        by_model_type=True,
        builds_causal_models=True,
        vision="left out",
        wrong_architectures=WRONG,
        tried=TRIED,
        quants=(
            QuantFact(
                method="gguf",
                formats=_GGUF_FORMATS,
                architectures=_GGUF_ARCHITECTURES,
                source="openvino.genai 2026.4 docs, GGUF reader; a small model of each was tried",
            ),
            # With a scale for each tensor it answered otherwise: 3.8 nats off.
            QuantFact(
                method="fp8",
                bits=frozenset({8}),
                strategies=frozenset({"block"}),
                whole_blocks=True,
                dequantised=True,
                source="transformers 5.23.0 quantizers/quantizer_finegrained_fp8.py: dequantised without a GPU",
            ),
            QuantFact(
                method="mxfp4",
                packages=("accelerate>=1.1",),
                dequantised=True,
                source="transformers 5.23.0 quantizers/quantizer_mxfp4.py: dequantised without its kernels",
            ),
        ),
        # It unpacks them while it compiles the graph: 2.6 GiB at the peak for 0.5 B parameters in fp16.
        widened_without={"fp16": COMPUTES_IN_16_BITS},
        overhead_bytes=1 << 30,
        serving_memory=SERVING_MEMORY,
        order=35,
        sources=(
            "openvino.genai 2026.4.1 src/cpp/src/llm/pipeline.cpp",
            "transformers 5.23.0 models/auto/modeling_auto.py",
        ),
    )
    variants = (
        _variant("fp16-pa", "fp16", "PA", prepares=True, prepared_as="fp16"),
        _variant("fp16-sdpa", "fp16", "SDPA", prepares=True, prepared_as="fp16"),
        _variant("fp32-pa", "fp32", "PA", prepares=True, prepared_as="fp32"),
        _variant("fp32-sdpa", "fp32", "SDPA", prepares=True, prepared_as="fp32"),
        _variant("int8-pa", "int8", "PA", lossy=True, prepares=True, prepared_as="int8"),
        _variant("int8-sdpa", "int8", "SDPA", lossy=True, prepares=True, prepared_as="int8"),
        _variant("int4-pa", "int4", "PA", lossy=True, prepares=True, prepared_as="int4"),
        _variant("int4-sdpa", "int4", "SDPA", lossy=True, prepares=True, prepared_as="int4"),
        _variant("gguf-pa", "model", "PA", as_is=True),
        _variant("gguf-sdpa", "model", "SDPA", as_is=True),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Also what a graph or paged attention gets wrong, and what the reader of .gguf files does."""
        reasons = []
        if variant.precision in {"fp16", "fp32"} and (variant.precision == "fp32") != (model.dtype == "float32"):
            kind = "float32" if variant.precision == "fp32" else "16-bit"
            reasons.append(f"needs a {kind} model, whose weights it holds as they are; found {model.dtype}")
        if not variant.as_is:
            limits = (*GRAPH_LIMITS, *PAGED_LIMITS) if variant.options["ATTENTION_BACKEND"] == "PA" else GRAPH_LIMITS
            return [*reasons, *beyond(model, limits)]
        window = model.sliding_window
        if window is not None and not window >= model.max_position > 0:
            reasons.append(f"needs plain causal masks for its GGUF reader; found a sliding window of {window}")
        if model.rope_type not in {"default", "none"}:
            reasons.append(f"needs plain rotary embedding for its GGUF reader; found {model.rope_type}")
        return reasons

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Trace the model, compress its weights where the variant says so, write the graph."""
        from calibration.backends.openvino import export as openvino_export

        graph = openvino_export.export(job.model_dir, trust_remote_code=job.trust_remote_code, say=say)
        if job.variant.lossy:
            say(f"openvino: compressing the weights to {job.variant.precision}")
            graph = openvino_export.compressed(graph, job.variant.precision)
        openvino_export.save(graph, job.model_dir, destination, halve=job.variant.precision != "fp32")

    def load(self, job: Job) -> Engine:
        """Load the graph, or the .gguf file, into a pipeline."""
        import openvino_genai

        place = _place(job)
        properties = _properties(job.variant, job.threads)
        more: dict[str, Any] = {}
        if job.variant.options["ATTENTION_BACKEND"] == "PA":
            more["scheduler_config"] = _scheduler(job.max_context_tokens * job.max_batch)
        graph = place / _GRAPH if job.variant.options["ATTENTION_BACKEND"] == "SDPA" and place.is_dir() else None
        plain = {name: value for name, value in properties.items() if name != "ATTENTION_BACKEND"}
        make = partial(openvino_genai.LLMPipeline, str(place), "CPU", **properties, **more)
        return PipelineEngine(make, graph, plain)

    def streams(self, job: Job) -> Streams:
        """Continuous batching with paged attention; without it one request after another.

        Scheduler, threads and precisions are those of `load`.
        """
        import openvino_genai

        place, properties = str(_place(job)), _properties(job.variant, job.threads)
        if properties.pop("ATTENTION_BACKEND") == "SDPA":
            pipeline = openvino_genai.LLMPipeline(place, "CPU", ATTENTION_BACKEND="SDPA", **properties)
            return StatefulStreams(pipeline, job)
        scheduler = _scheduler(job.max_context_tokens * job.max_batch)
        scheduler.max_num_seqs = job.max_batch
        return PagedStreams(openvino_genai.ContinuousBatchingPipeline(place, scheduler, "CPU", properties), job)

    def streams_of(self, engine: Engine, job: Job) -> Streams:
        """One request after another: LLMPipeline holds one batch, whatever its scheduler."""
        assert isinstance(engine, PipelineEngine)
        return StatefulStreams(CurrentPipeline(engine), job)

    def streams_type(self, variant: Variant) -> type[Streams]:
        return PagedStreams if variant.options["ATTENTION_BACKEND"] == "PA" else StatefulStreams

    def engine_config(self, variant: Variant, deployment: Deployment) -> dict[str, Any]:
        """Properties for LLMPipeline."""
        return dict(variant.options)


def _place(job: Job) -> Path:
    """What is loaded: a .gguf file, or the folder of a graph."""
    if job.variant.as_is:
        return job.model_dir
    assert job.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
    return job.artifact_dir


def _properties(variant: Variant, threads: int) -> dict[str, Any]:
    # The process is bound to its cores already; the plugin's own binding would look at the whole machine.
    return {**variant.options, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}


def _scheduler(tokens: int) -> Any:
    """No prefix cache, whose hits would pass for a fast prefill; whole prompts in one step, as the default has it."""
    import openvino_genai

    wanted = openvino_genai.SchedulerConfig()
    wanted.enable_prefix_caching = False
    wanted.max_num_batched_tokens = max(256, tokens)
    return wanted

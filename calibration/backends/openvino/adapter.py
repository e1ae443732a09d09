"""OpenVINO GenAI: a graph traced from a transformers model, run by Intel's CPU plugin with either of its schedulers."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    StoppedEarly,
    Variant,
)
from calibration.backends.openvino.limits import TABLE, TRIED, beyond
from calibration.backends.openvino.memory import COMPUTES_IN_16_BITS, SERVING_MEMORY
from calibration.backends.openvino.streams import PagedStreams, StatefulStreams
from calibration.streams import Streams

_GGUF_ARCHITECTURES = frozenset({"LlamaForCausalLM", "Qwen3ForCausalLM"})
"""Of the reader's three (src/cpp/src/gguf_utils of openvino.genai); Qwen2 has biases, which it gets wrong."""
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
        # 16-bit weights stay in their file, but for embeddings that a model scales. What is compressed is held until it
        # is written: of large models that is more than was measured beside the copies of the embeddings (0.28 bytes a
        # parameter), which weigh more in small ones.
        prepare_memory_of_16_bits={
            "fp16": PrepareMemory(start_bytes=600 << 20, per_parameter=0.1, per_embedding=5.0),
            "int8": PrepareMemory(start_bytes=609 << 20, per_parameter=1.0, per_embedding=7.57),
            "int4": PrepareMemory(start_bytes=623 << 20, per_parameter=0.75, per_embedding=7.54),
        },
        install="autobackend backends install openvino",
        # Its GPU plugin is for Intel's GPUs, which accelerators.py does not look for.
        devices=frozenset({"cpu"}),
        batching="continuous",
        architectures_table=TABLE,
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
        """Also what a graph or paged attention gets wrong (limits.py), and what the reader of .gguf files does."""
        reasons = []
        if variant.precision in {"fp16", "fp32"} and (variant.precision == "fp32") != (model.dtype == "float32"):
            kind = "float32" if variant.precision == "fp32" else "16-bit"
            reasons.append(f"needs a {kind} model, whose weights it holds as they are; found {model.dtype}")
        if not variant.as_is:
            return [*reasons, *beyond(model, paged=variant.options["ATTENTION_BACKEND"] == "PA")]
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
        return _Pipeline(partial(openvino_genai.LLMPipeline, str(place), "CPU", **properties, **more), graph, plain)

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
        assert isinstance(engine, _Pipeline)
        return StatefulStreams(_Current(engine), job)

    def streams_type(self, variant: Variant) -> type[Streams]:
        return PagedStreams if variant.options["ATTENTION_BACKEND"] == "PA" else StatefulStreams

    def engine_config(self, variant: Variant, deployment: Deployment) -> dict[str, Any]:
        """Properties for LLMPipeline."""
        return dict(variant.options)


class _Pipeline(Engine):
    """A loaded pipeline.

    Args:
        make: gives an openvino_genai.LLMPipeline.
        graph: the file of the graph, where what the pipeline runs can be asked for its scores: with paged attention the
            pipeline rewrites the graph, and a .gguf file has none.
        properties: what the graph is compiled with.
    """

    def __init__(self, make: Callable[[], Any], graph: Path | None, properties: Mapping[str, Any]) -> None:
        self._make = make
        self._pipeline: Any = make()
        self._graph = graph
        self._properties = properties
        self._request: Any = None

    @property
    def pipeline(self) -> Any:
        """What generates; it is made anew where scores were asked for since."""
        if self._pipeline is None:
            self._request = None
            self._pipeline = self._make()
        return self._pipeline

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        import numpy as np
        import openvino
        import openvino_genai

        wanted = openvino_genai.GenerationConfig()
        wanted.max_new_tokens = new_tokens
        wanted.ignore_eos = True
        # Of a model that names no token that ends an answer the pipeline would take -1, and refuse it.
        wanted.eos_token_id = 0
        wanted.stop_token_ids = {0}
        wanted.do_sample = False
        wanted.apply_chat_template = False
        began = time.perf_counter()
        given = np.array(prompts, dtype=np.int64)
        asked = openvino_genai.TokenizedInputs(openvino.Tensor(given), openvino.Tensor(np.ones_like(given)))
        made = self.pipeline.generate(asked, wanted)
        tokens = tuple(tuple(int(token) for token in row) for row in made.tokens)
        steps = _arrivals(made.perf_metrics, new_tokens, began)
        return Generation(tokens=tokens, arrivals=(steps,) * len(prompts))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows | None:
        """Through the graph that the pipeline compiles, step by step; with paged attention there is no such graph.

        The pipeline goes meanwhile: beside it the graph would double the memory that the candidate is said to need.
        """
        import numpy as np
        import openvino

        if self._graph is None:
            return None
        if self._request is None:
            self._pipeline = None
            core = openvino.Core()
            graph = core.read_model(self._graph)
            _score_last_only(graph)
            self._request = core.compile_model(graph, "CPU", self._properties).create_infer_request()
        self._request.reset_state()
        rows: list[Any] = []
        past = 0
        for given in ([*prompt], *([token] for token in continuation)):
            whole = past + len(given)
            made = self._request.infer(
                {
                    "input_ids": np.array([given], dtype=np.int64),
                    "attention_mask": np.ones((1, whole), dtype=np.int64),
                    "position_ids": np.arange(past, whole, dtype=np.int64)[None],
                    "beam_idx": np.zeros(1, dtype=np.int32),
                }
            )
            rows.append(np.array(made["logits"][0, -1], dtype=np.float32))
            past = whole
        return rows


class _Current:
    """Answers by the pipeline that an engine has now."""

    def __init__(self, engine: _Pipeline) -> None:
        self._engine = engine

    def generate(self, *asked: Any) -> Any:
        return self._engine.pipeline.generate(*asked)


_AFTER_HEAD = frozenset({"Add", "Convert", "Divide", "Multiply", "Tanh", "Transpose"})
"""What may stand between the head's product and the scores: a bias, a softcap."""


def _score_last_only(graph: Any) -> None:
    """Let the head see the last position alone, as the pipeline does: a long prompt's scores would fill gigabytes."""
    import openvino

    node = graph.output("logits").get_node().input_value(0).get_node()
    while node.get_type_name() in _AFTER_HEAD:
        node = node.input_value(0).get_node()
    if node.get_type_name() == "MatMul":
        last = openvino.opset13.slice(node.input_value(0), [-1], [1 << 62], [1], [1])
        node.input(0).replace_source_output(last.output(0))
        graph.validate_nodes_and_infer_types()


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


def _arrivals(metrics: Any, new_tokens: int, began: float) -> tuple[float, ...]:
    """Seconds since the call at which each step's tokens were there, by the pipeline's own record.

    It notes milliseconds of the steady clock, which on Linux is the one that time.perf_counter reads.

    Raises:
        StoppedEarly: it made another number of steps.
    """
    times = [float(t) for t in metrics.raw_metrics.m_new_token_times]
    if len(times) != new_tokens:
        raise StoppedEarly(f"asked for {new_tokens} tokens; the pipeline made {len(times)} steps")
    return tuple(t / 1e3 - began for t in times)

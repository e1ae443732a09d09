"""ONNX Runtime GenAI: a graph built once from a Hugging Face folder, run by ONNX Runtime."""

import tempfile
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
    Variant,
)
from calibration.backends.onnxruntime.engine import Graph, GraphEngine
from calibration.backends.onnxruntime.limits import OWN_CODES, QUANTS, TRIED, WINDOWED, WRONG, limits
from calibration.backends.onnxruntime.memory import SERVING_MEMORY
from calibration.backends.onnxruntime.ragged import RaggedGraph, can_be_ragged
from calibration.backends.onnxruntime.streams import Together
from calibration.backends.onnxruntime.turns import Turns
from calibration.engine.streams import Streams

_BUILDER = "onnxruntime-genai 0.18.0 models/builder.py (create_model)"


class OnnxRuntimeBackend(Backend):
    """onnxruntime_genai.Generator on a graph that its model builder wrote."""

    name = "onnxruntime"
    facts = Facts(
        title="ONNX Runtime GenAI",
        url="https://github.com/microsoft/onnxruntime-genai",
        package="onnxruntime-genai",
        # The builder is called by the functions that 0.18 has; it imports onnx, onnx-ir, torch and transformers.
        requires=(
            "onnxruntime-genai>=0.18",
            "onnxruntime>=1.20",
            "onnx>=1.17",
            "onnx-ir",
            "torch>=2.4",
            "transformers>=5",
        ),
        prepare_time=PrepareTime(start_s=4.0, s_per_gib=10.0),
        # Quantised weights are made from the whole graph in float32; in fp32 the graph's weights stay in files.
        prepare_memory={
            "fp32": PrepareMemory(start_bytes=336 << 20, per_parameter=0.29, per_embedding=7.8),
            "int8": PrepareMemory(start_bytes=331 << 20, per_parameter=5.45, per_embedding=10.7),
            "int4": PrepareMemory(start_bytes=327 << 20, per_parameter=5.02, per_embedding=4.9),
        },
        install="autobackend backends install onnxruntime",
        # GPUs take a distribution of another name, onnxruntime-genai-cuda.
        devices=frozenset({"cpu"}),
        architectures=TRIED,
        # create_model compares config.architectures[0] with each name.
        architectures_table=("onnxruntime-genai", "models/builder.py"),
        wrong_architectures=WRONG,
        quants=QUANTS,
        tried=TRIED,
        releases=Path(__file__).with_name("releases.json"),
        serving_memory=SERVING_MEMORY,
        windowed_architectures=WINDOWED,
        order=30,
        sources=(_BUILDER,),
    )
    variants = (
        Variant(name="fp32", precision="fp32", prepares=True),
        Variant(name="int8", precision="int8", lossy=True, prepares=True),
        # By the builder's defaults: symmetric blocks of 32 weights; products with activations that are rounded to int8
        # (accuracy_level 4 on a CPU).
        Variant(name="int4", precision="int4", lossy=True, prepares=True),
    )

    def fits(self, model: Model, variant: Variant, device: Device | None = None) -> list[str]:
        """Also: what the builder reads of a config, and what it leaves out."""
        if model.quant.method in OWN_CODES and variant.precision != "int4":
            # AttributeError: a quantised matrix has no weight (models/builders/base.py).
            return [f"needs unquantised weights to build {variant.name}; found {model.quant.label}", *limits(model)]
        return limits(model)

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Build the graph; the builder talks on stdout, which is the worker's log."""
        from onnxruntime_genai.models.builder import create_model, parse_extra_options

        say(f"onnxruntime: building {job.variant.precision} from {job.model_dir}")
        with tempfile.TemporaryDirectory(prefix="onnxruntime-") as scratch:
            place = ("", str(job.model_dir), str(destination), job.variant.precision, "cpu", scratch)
            options = parse_extra_options(*place, _wishes(trust_remote_code=job.trust_remote_code))
            _complete(options["hf_details"]["hf_config"], job.vocab_size)
            create_model(*place, **options)

    def load(self, job: Job) -> GraphEngine:
        """Load the built graph."""
        return GraphEngine(Graph(job))

    def streams(self, job: Job) -> Streams:
        """Load the built graph: for requests that run together, or for turns where it does not allow that."""
        return Together(RaggedGraph(job), job) if can_be_ragged(job) else Turns(Graph(job), job)

    def streams_of(self, engine: Engine, job: Job) -> Streams:
        """In turns: what generates takes sequences of one length."""
        assert isinstance(engine, GraphEngine)
        return Turns(engine.graph, job)

    def streams_type(self, variant: Variant) -> type[Streams]:
        return Together

    def engine_config(self, variant: Variant, deployment: Deployment) -> dict[str, Any]:
        """What to lay over genai_config.json by Config.overlay: room for the workload's longest sequence."""
        return {"search": {"max_length": deployment.demand.workload.context_tokens}}


def _complete(config: Any, vocab_size: int) -> None:
    """Give the builder what it asks for, and what a config of transformers need not have."""
    if getattr(config, "eos_token_id", None) is None:
        config.eos_token_id = vocab_size - 1  # `Graph` overlays its own
    rotation = getattr(config, "rope_parameters", None)
    if isinstance(rotation, dict) and "rope_type" in rotation:
        rotation.setdefault("type", rotation["rope_type"])  # Phi3's builder reads the former name


def _wishes(*, trust_remote_code: bool) -> list[str]:
    """The builder's extra options.

    By default the head runs over the whole prompt, [batch, prompt, vocab] scores of which the last row is used; and the
    hub is asked with a token that not every user has.
    """
    return ["prune_lm_head=true", "hf_token=false", f"hf_remote={str(trust_remote_code).lower()}"]

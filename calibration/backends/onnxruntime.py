"""ONNX Runtime GenAI: a graph built once from a Hugging Face folder, run by ONNX Runtime."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Deployment, Engine, Facts, Generation, Job, PrepareMemory, Rows, Variant

_BUILDER = "onnxruntime-genai 0.18.0 models/builder.py (create_model)"

_DECODERS = frozenset({
    "Ernie4_5ForCausalLM", "Gemma2ForCausalLM", "GemmaForCausalLM", "GraniteForCausalLM", "HunYuanDenseV1ForCausalLM",
    "Lfm2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "NemotronForCausalLM", "Phi3ForCausalLM",
    "PhiForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
})  # fmt: skip
"""Dense text decoders that the builder exports for the CPU, each tried on a small random model against transformers
5.23.0. Left out although the builder names them: Gemma3 (KeyError rope_type) and SmolLM3 (KeyError position_ids), which
do not build with transformers 5, and Olmo, whose logits are off by 0.9 at a deviation of 0.8."""


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
        prepare_s_per_gib=20.0,
        # Quantised weights are made from the whole graph in float32; in fp32 the graph's weights stay in files.
        prepare_memory={
            "fp32": PrepareMemory(start_bytes=336 << 20, per_parameter=0.29, per_embedding=7.8),
            "int8": PrepareMemory(start_bytes=331 << 20, per_parameter=5.45, per_embedding=10.7),
            "int4": PrepareMemory(start_bytes=327 << 20, per_parameter=5.02, per_embedding=4.9),
        },
        install="autobackend backends install onnxruntime",
        # GPUs take a distribution of another name, onnxruntime-genai-cuda.
        devices=frozenset({"cpu"}),
        architectures=_DECODERS,
        # Logits with yarn and linear scaling are off by 3.5 to 5 at a deviation of 2 (tried with 0.18.0).
        rope_types=frozenset({"default", "llama3", "longrope"}),
        # Mistral and Phi3 fail on a prompt longer than the window.
        windowed_architectures=frozenset({"Gemma2ForCausalLM", "Qwen2ForCausalLM"}),
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

    def prepare(self, job: Job, destination: Path, say: Callable[[str], None]) -> None:
        """Build the graph; the builder talks on stdout, which is the worker's log."""
        from onnxruntime_genai.models.builder import create_model, parse_extra_options

        say(f"onnxruntime: building {job.variant.precision} from {job.model_dir}")
        with tempfile.TemporaryDirectory(prefix="onnxruntime-") as scratch:
            place = ("", str(job.model_dir), str(destination), job.variant.precision, "cpu", scratch)
            create_model(*place, **parse_extra_options(*place, _wishes(trust_remote_code=job.trust_remote_code)))

    def load(self, job: Job) -> Engine:
        """Load the built graph."""
        import onnxruntime_genai

        assert job.artifact_dir is not None  # the caller runs `prepare` for every variant that prepares
        config = onnxruntime_genai.Config(str(job.artifact_dir))
        # Most vocabularies are padded at their end, so hardly a path meets the last id.
        end = job.vocab_size - 1
        config.overlay(json.dumps(_overlay(job, end)))
        return _Generator(onnxruntime_genai.Model(config), end, _least_length(job.artifact_dir))

    def engine_config(self, variant: Variant, deployment: Deployment) -> dict[str, Any]:
        """What to lay over genai_config.json by Config.overlay: room for the workload's longest sequence."""
        return {"search": {"max_length": deployment.demand.workload.context_tokens}}


class _Generator(Engine):
    """A loaded graph.

    Args:
        model: onnxruntime_genai.Model.
        end: the token at which the model ends a sequence.
        least_length: capacity below which the graph refuses to run.
    """

    scores_its_steps = True

    def __init__(self, model: Any, end: int, least_length: int) -> None:
        self._model = model
        self._end = end
        self._least_length = least_length

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Generation:
        """One batch.

        Should a path meet the token that ends sequences, the batch is timed anew with that token forbidden, and what
        comes after it is found step by step.
        """
        tokens, times = self._timed(prompts, new_tokens, forbid_end=False)
        met = [self._end in path for path in tokens]
        if any(met):
            _, times = self._timed(prompts, new_tokens, forbid_end=True)
            tokens = [
                self._greedy(prompt, new_tokens) if ended else path
                for prompt, path, ended in zip(prompts, tokens, met, strict=True)
            ]
        return Generation(tokens=tuple(tuple(path) for path in tokens), arrivals=(tuple(times),) * len(prompts))

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        generator = self._generator(1, len(prompt) + len(continuation) + 1)
        return [self._next_scores(generator, given) for given in ([*prompt], *([token] for token in continuation))]

    def _timed(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, *, forbid_end: bool
    ) -> tuple[list[list[int]], list[float]]:
        """Tokens [batch, new_tokens] and the seconds since the call at which each step's were there."""
        import numpy as np

        began = time.perf_counter()
        steps: list[list[int]] = []
        times: list[float] = []
        generator = self._generator(len(prompts), len(prompts[0]) + new_tokens, forbid_end=forbid_end)
        generator.append_tokens(np.array(prompts, dtype=np.int32))
        while len(steps) < new_tokens:
            generator.generate_next_token()
            steps.append(generator.get_next_tokens().tolist())
            times.append(time.perf_counter() - began)
        return [list(path) for path in zip(*steps, strict=True)], times

    def _greedy(self, prompt: Sequence[int], new_tokens: int) -> list[int]:
        """A path for which no token ends anything; the engine appends chosen tokens to one sequence only."""
        generator = self._generator(1, len(prompt) + new_tokens)
        path: list[int] = []
        while len(path) < new_tokens:
            path.append(int(self._next_scores(generator, [path[-1]] if path else prompt).argmax()))
        return path

    def _next_scores(self, generator: Any, given: Sequence[int]) -> Any:
        """Scores [vocab] of the token after `given`."""
        import numpy as np

        generator.append_tokens(np.array([given], dtype=np.int32))
        return np.array(generator.get_logits(), dtype=np.float32)[0, -1]

    def _generator(self, batch: int, length: int, *, forbid_end: bool = False) -> Any:
        import onnxruntime_genai

        capacity = max(length, self._least_length)
        wanted = onnxruntime_genai.GeneratorParams(self._model)
        wanted.set_search_options(
            batch_size=batch, max_length=capacity, min_length=capacity if forbid_end else 0, do_sample=False
        )
        return onnxruntime_genai.Generator(self._model, wanted)


def _wishes(*, trust_remote_code: bool) -> list[str]:
    """The builder's extra options.

    By default the head runs over the whole prompt, [batch, prompt, vocab] scores of which the last row is used; and the
    hub is asked with a token that not every user has.
    """
    return ["prune_lm_head=true", "hf_token=false", f"hf_remote={str(trust_remote_code).lower()}"]


def _overlay(job: Job, end: int) -> dict[str, Any]:
    """Threads, and the token that ends a sequence: the engine needs one, and stops there unless it is forbidden."""
    threads = {"intra_op_num_threads": job.threads}
    return {"model": {"eos_token_id": end, "decoder": {"session_options": threads}}}


def _least_length(artifact_dir: Path) -> int:
    """A graph with a sliding window refuses less: "KV cache capacity must be at least local_window_size"."""
    config = json.loads((artifact_dir / "genai_config.json").read_text(encoding="utf-8"))
    return int((config["model"]["decoder"].get("sliding_window") or {}).get("window_size", 0))

"""Roofline: which share of what the machine's memory and arithmetic reach a measured time makes use of.

A decode step reads every weight that it uses once, for all sequences of the batch, and the keys and values of each:

    step_bytes = weight * (always + routed * chosen) + batch * kv(prompt + output / 2)
    always     = parameters - routed, and without the input embedding, of which a step reads only a row
    chosen     = 1 - (1 - experts_per_token / experts) ** batch
    bandwidth  = step_bytes / TPOT / bandwidth of all cores

`weight` is the mean size of a weight as the variant holds it, `routed` the parameters of the routed experts, `chosen`
the share of them that some sequence of the batch chooses where all are as likely. Half of the output is the context
that the steps have had in the mean.

A prefill multiplies and adds each token with each weight of the layers that it uses, the last token also with the
output embedding, and each token with the keys and the values of the tokens before it, as many as its window reaches:

    operations = batch * (2 * layers * prompt + 2 * head + attention)
    layers     = parameters - routed - embeddings + routed * experts_per_token / experts
    attention  = 4 * heads * head_dim * (tokens that are attended to, added up over tokens and layers)
    rate       = operations / TTFT / rate of the dtype

Both count what cannot be spared, so a share tells what an engine leaves unused, not what it does. Latent attention
(MLA) is computed in more than one way and left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from calibration.measurement import Candidate
from calibration.probing.probe import Probe
from calibration.registry import all_backends
from calibration.workload import Workload
from selector.demand.demand import Demand
from selector.host.spec import HostSpec
from selector.model.spec import ModelSpec
from selector.rules.combination import DTYPES, Combination
from selector.rules.held import uncounted, weight_bytes

ROOFS = {
    "float32": ("float32",),
    "bfloat16": ("float32", "bfloat16", "float16"),
    "float16": ("float32", "bfloat16", "float16"),
    "int8": ("float32", "bfloat16", "float16", "int8"),
}
"""Dtype: whose rates an engine may reach with it. It can always compute in a wider one, and does where the CPU has no
instructions for the narrow one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one variant cannot spare for a workload, on each of its devices."""

    step_bytes: float
    """Read by a decode step, in the mean of its steps."""
    operations: float
    """Of the prefill."""
    dtype: str
    """What it multiplies in, a key of ROOFS; empty where that was not probed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How much of the machine's limits was reached; 1 is all of it."""

    bandwidth: float | None
    """Of the memory bandwidth, in decode; None where nothing was decoded."""
    rate: float | None
    """Of the matrix rate, in prefill; None where the probe has no rate for the dtype."""
    dtype: str
    cached: bool
    """What a step reads fits into the last-level cache, so that it may be read faster than memory."""


def needs_of(
    spec: ModelSpec, host: HostSpec, candidate: Candidate, workload: Workload, *, devices: int = 1
) -> Needs | None:
    """What a candidate needs for a workload.

    None where that is not known: the config does not tell the model's size, a part of it sees, the candidate's backend
    is not installed any more, or its engine decodes the sequences of a batch one after another.

    Args:
        devices: that run the model together.
    """
    case = _case(spec, host, candidate, Demand(workloads=(workload,), tensor_parallel=devices))
    if case is None or spec.vision or uncounted(case) or spec.parameters <= 0:
        return None
    if workload.batch > 1 and (case.variant.batching or case.facts.batching) == "one after another":
        return None
    head = spec.embeddings
    routed = spec.expert_parameters
    always = spec.parameters - routed - (0 if spec.tie_word_embeddings else head)
    used = spec.experts_per_token / spec.experts if spec.experts else 0.0
    chosen = 1 - (1 - used) ** workload.batch
    # weight_bytes is what one device holds.
    held = weight_bytes(case) / spec.parameters * (always + routed * chosen)
    context = workload.prompt_tokens + workload.output_tokens // 2
    kv_bits = 32 if case.dtype == "float32" else 16
    layers = always - head + routed * used
    tokens = workload.prompt_tokens
    operations = workload.batch * (2 * layers * tokens + 2 * head + _attention(spec, tokens))
    return Needs(
        step_bytes=held + spec.kv_bytes(context, workload.batch, kv_bits) / devices,
        operations=operations / devices,
        dtype=_dtype(case),
    )


def shares_of(needs: Needs, ttft_s: float, tpot_s: float | None, probe: Probe) -> Shares:
    """Which shares of the limits that the probe found these times reach."""
    rates = [probe.rates[dtype].all for dtype in ROOFS.get(needs.dtype, ()) if dtype in probe.rates]
    rate = needs.operations / ttft_s / (max(rates) * 1e9) if rates and ttft_s > 0 else None
    bandwidth = needs.step_bytes / tpot_s / (probe.bandwidth_gbs.all * 1e9) if tpot_s else None
    cached = needs.step_bytes <= probe.cache_bytes
    return Shares(bandwidth=bandwidth, rate=rate, dtype=needs.dtype, cached=cached)


def _case(spec: ModelSpec, host: HostSpec, candidate: Candidate, demand: Demand) -> Combination | None:
    """The candidate as a rule sees it; None where its backend, variant or installation is gone."""
    backend = all_backends().get(candidate.backend)
    variant = next((v for v in backend.variants if v.name == candidate.variant), None) if backend else None
    if backend is None or variant is None or backend.name not in host.installations:
        return None
    return Combination(
        model=spec,
        host=host,
        installation=host.installations[backend.name],
        backend=backend,
        variant=variant,
        demand=demand,
        device=host.device,
    )


def _attention(spec: ModelSpec, tokens: int) -> float:
    """Operations of all layers with the keys and values of a prompt of one sequence."""
    if spec.kv_lora_rank:
        return 0
    kinds = [(alike.layers, alike.window) for alike in spec.key_values if alike.width]
    if not spec.key_values:
        kinds = [(spec.layers - spec.window_layers, None), (spec.window_layers, spec.sliding_window)]
    return 4 * spec.heads * spec.head_dim * _attended(kinds, tokens)


def _attended(kinds: Iterable[tuple[int, int | None]], tokens: int) -> int:
    """The tokens that each token attends to, itself too, added up over tokens and layers.

    Args:
        kinds: layers, and how far their window reaches.
    """
    total = 0
    for layers, window in kinds:
        reach = min(window or tokens, tokens)
        # 1 + 2 + ... + reach, then reach for each of the others.
        total += layers * (reach * (reach + 1) // 2 + (tokens - reach) * reach)
    return total


def _dtype(case: Combination) -> str:
    """What a variant multiplies in; empty for narrow floats (fp8, mxfp4), which the probe does not measure.

    On a CPU, engines multiply weights of 8 and 4 bits as int8; on an accelerator they unpack 4 bits to the model's
    dtype.
    """
    quant, precision = case.model.quant, case.variant.precision
    bits = {"int8": 8, "int4": 4}.get(precision, 0)
    if precision == "model" and quant.method != "none":
        if "float" in {group.kind for group in quant.groups or (quant,)}:
            return ""
        bits = quant.bits or 8
    if 0 < bits <= 8:
        return "int8" if case.device.kind == "cpu" or bits == 8 else case.model.dtype
    if case.host.lacks(case.facts.widened_without.get(precision)):
        return "float32"
    return DTYPES.get(precision, case.model.dtype)

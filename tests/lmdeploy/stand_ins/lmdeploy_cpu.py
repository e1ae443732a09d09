"""Run LMDeploy's PyTorch engine on a machine without a GPU, for tests.

Call install() before an engine is built. After it Engine, PytorchEngineConfig, GenerationConfig and lmdeploy.pipeline
are LMDeploy's own and are used as on a GPU (device_type stays "cuda"). Scheduler, paging, engine loop, model code,
weight loading and sampling are real; the torch.cuda calls and the kernels are replaced. Made for lmdeploy 0.18.0:
each replacement names the line that needs it (paths relative to lmdeploy/pytorch/, or starting with lmdeploy/).
"""

import contextlib
import dataclasses
import functools
import math
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DEVICE_MEMORY = 1 << 30
"""Reported as free; the KV cache is sized from it unless num_gpu_blocks is given."""

_installed: list[str] = []


class CpuStream:
    """A stream on which everything has already happened."""

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        return event or CpuEvent()

    def synchronize(self) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    wait_stream = wait_event


class CpuEvent:
    """An event that has already happened."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def query(self) -> bool:
        return True

    def record(self, stream: Any = None) -> None:
        pass

    wait = record

    def synchronize(self) -> None:
        pass


def install(kernels: str = "torch") -> None:
    """Put the stand-ins in place, once per process.

    Args:
        kernels: `torch`: plain-torch operators. `triton`: LMDeploy's CudaOpsBackend and its real Triton kernels under
            Triton's interpreter; some hundred times slower, needs triton, and nothing may have imported it before.
    """
    if _installed:
        if _installed != [kernels]:
            raise RuntimeError(f"already installed with kernels={_installed[0]!r}")
        return
    _installed.append(kernels)
    os.environ["LMDEPLOY_ENABLE_CHECK_ENV"] = "0"  # engine/engine_checker.py:117: would spawn a process, then exit(1)
    os.environ["TORCH_COMPILE_DISABLE"] = "1"  # backends/default/rotary_embedding.py:49: slow, needs g++
    if kernels == "triton":
        os.environ["TRITON_INTERPRET"] = "1"
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].config.disable = True
    _fake_cuda()

    import lmdeploy.utils
    from lmdeploy.pytorch import config, envs
    from lmdeploy.pytorch.backends import selector
    from lmdeploy.pytorch.engine.cache_engine import plan, state
    from lmdeploy.pytorch.engine.model_agent import agent
    from lmdeploy.pytorch.strategies.ar.model_inputs import ARModelInputsStrategy

    envs.enable_check_env = False  # the variable is read at import
    # lmdeploy/utils.py:443 wants torch.version.cuda; config.py:116 makes float16 of bfloat16 without it.
    lmdeploy.utils.is_bf16_supported = config.is_bf16_supported = lambda device_type="cuda": True
    if kernels == "triton":
        _interpret_triton()
    else:
        backend = _torch_backend()
        selector._get_backend = lambda: backend  # backends/selector.py:14

    make_agent = agent.BaseModelAgent.__init__

    @functools.wraps(make_agent)
    def make_cpu_agent(self: Any, *args: Any, **kwargs: Any) -> None:
        make_agent(self, *args, **kwargs)
        self.device = "cpu"  # agent.py:363: "cuda", for weights and the graph runner

    agent.BaseModelAgent.__init__ = make_cpu_agent
    agent._try_to_cuda = _to_card  # agent.py:279: the inputs of each step
    to_host = agent.BatchedOutputs.to_cpu
    agent.BatchedOutputs.to_cpu = lambda self: _private(to_host(self))  # agent.py:138: .cpu() would not copy here
    plan.BlockCachePlan.allocate = _on_cpu(plan.BlockCachePlan.allocate)  # cache_engine/engine.py:120: KV cache
    state._allocate_state_caches = _on_cpu(state._allocate_state_caches)  # cache_engine/state.py:34-36
    ARModelInputsStrategy.make_dummy = _on_cpu(ARModelInputsStrategy.make_dummy)  # agent.py:492,506,550: warm-up


def _fake_cuda() -> None:
    cuda: Any = torch.cuda
    stream = CpuStream()
    cuda.Stream, cuda.Event = CpuStream, CpuEvent  # engine/model_agent/agent.py:356-358,717,1255
    cuda.stream = lambda stream: contextlib.nullcontext()  # agent.py:235,529,1197,1250,1370
    cuda.current_stream = lambda device=None: stream  # agent.py:234; cache_engine/engine.py:94; logits_process.py:388
    cuda.synchronize = lambda device=None: None  # agent.py:500,515,559
    cuda.empty_cache = lambda: None  # agent.py:479,1997; weight_loader/model_weight_loader.py:112
    cuda.current_device = lambda: 0  # utils.py:21
    cuda.mem_get_info = lambda device=None: (DEVICE_MEMORY, DEVICE_MEMORY)  # utils.py:22
    cuda.get_device_name = lambda device=None: "cpu"  # lmdeploy/utils.py:415, the default max_batch_size (128)
    properties = types.SimpleNamespace(
        name="cpu", major=8, minor=0, multi_processor_count=1, warp_size=32, total_memory=DEVICE_MEMORY
    )
    # configurations/utils.py:16, kernels/cuda/utils.py:36
    cuda.get_device_properties = lambda device=None: properties
    cuda.get_device_capability = lambda device=None: (8, 0)  # kernels/cuda/utils.py:63
    torch._C._cuda_clearCublasWorkspaces = lambda: None  # engine/engine.py:685, Engine.close


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    first: int,
    scale: float,
    window: int = -1,
    softcap: float = 0.0,
    causal: bool = True,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention of q [n, heads, d], standing at positions first.., to k and v [m, kv heads, d]; float32 inside."""
    group = q.size(1) // k.size(1)
    k, v = (x.float().repeat_interleave(group, dim=1) for x in (k, v))
    score = torch.einsum("qhd,khd->hqk", q.float(), k) * scale
    if softcap > 0:
        score = softcap * torch.tanh(score / softcap)
    at, key_at = torch.arange(first, first + q.size(0))[:, None], torch.arange(k.size(0))[None]
    hidden = (key_at > at) & causal
    if window > 0:
        # window + 1 keys, as in LMDeploy's kernels (kernels/cuda/flashattention.py:231, pagedattention.py:148);
        # transformers sees `window` keys.
        hidden = hidden | (key_at < at - window)
    score = score.masked_fill(hidden, -math.inf)
    if sinks is not None:
        score = torch.cat([score, sinks.float().view(-1, 1, 1).expand(-1, q.size(0), 1)], dim=-1)
    prob = score.softmax(-1)[..., : k.size(0)]
    return torch.einsum("hqk,khd->qhd", prob, v).to(q.dtype)


def _torch_backend() -> type:
    """LMDeploy's plain-torch operators (backends/default), plus what exists, or is whole, only as a GPU kernel."""
    from lmdeploy.pytorch.backends.apply_rotary_emb import ApplyRotaryEmbBuildSpec
    from lmdeploy.pytorch.backends.attention import AttentionMetadata, PagedAttentionBuildSpec
    from lmdeploy.pytorch.backends.default import DefaultOpsBackend
    from lmdeploy.pytorch.backends.moe import FusedMoEBuildSpec

    made = (
        (PagedAttentionBuildSpec, _paged_attention()),
        (FusedMoEBuildSpec, _experts()),
        (ApplyRotaryEmbBuildSpec, _rotation()),
    )

    class CpuOpsBackend(DefaultOpsBackend):
        @classmethod
        def build_op(cls, spec: Any, *, enable_deterministic: bool = False) -> Any:
            for kind, operator in made:
                if isinstance(spec, kind):
                    return operator(spec)
            return super().build_op(spec, enable_deterministic=enable_deterministic)

        @staticmethod
        def get_attention_metadata_cls() -> type:
            return AttentionMetadata

        @classmethod
        def update_step_context(cls, step: Any) -> Any:  # model_inputs.py:441
            step.attn_metadata = AttentionMetadata(
                is_decoding=step.is_decoding,
                block_offsets=step.block_offsets,
                q_start_loc=step.q_start_loc,
                q_seqlens=step.q_seqlens,
                kv_seqlens=step.kv_seqlens,
                quant_policy=step.kv_quant_policy,
            )
            return step

    return CpuOpsBackend


def _paged_attention() -> type:
    from lmdeploy.pytorch.backends.attention import AttentionImpl

    class PagedAttention(AttentionImpl):
        def __init__(self, spec: Any) -> None:
            if spec.alibi or spec.use_flash_mla or spec.block_sparse_size != 1:
                raise NotImplementedError(f"no CPU attention for {spec}")
            window = spec.sliding_window
            super().__init__(
                spec.num_heads,
                spec.head_dim,
                spec.scale,
                spec.num_kv_heads,
                spec.v_head_dim,
                sliding_window=window[0] if isinstance(window, tuple | list) else window or -1,
                logit_softcapping=spec.logit_softcapping,
                causal=spec.causal,
            )

        def forward(
            self,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            k_cache: Tensor,
            v_cache: Tensor,
            attn_metadata: Any,
            k_scales_zeros: Any = None,
            v_scales_zeros: Any = None,
            learnable_sink: Tensor | None = None,
            nsa_indices: Any = None,
            inplace: bool = True,
        ) -> Tensor:
            if attn_metadata.quant_policy != 0:
                raise NotImplementedError("no CPU attention for a quantized KV cache")
            page_len = k_cache.size(1)  # caches are [pages, page_len, kv heads, dim]
            out = query.new_zeros(*query.shape[:-1], value.size(-1))
            start = 0
            new_lens, total_lens = attn_metadata.q_seqlens.tolist(), attn_metadata.kv_seqlens.tolist()
            for pages, new, total in zip(attn_metadata.block_offsets, new_lens, total_lens, strict=False):
                mine, start = slice(start, start + new), start + new
                at = torch.arange(total)
                page, offset = pages[at // page_len].long(), at % page_len  # IndexError: a wrong page table
                k_cache[page[total - new :], offset[total - new :]] = key[mine]
                v_cache[page[total - new :], offset[total - new :]] = value[mine]
                out[mine] = attend(
                    query[mine],
                    k_cache[page, offset],
                    v_cache[page, offset],
                    first=total - new,
                    scale=self.scale,
                    window=self.sliding_window,
                    softcap=self.logit_softcapping or 0.0,
                    causal=self.causal,
                    sinks=learnable_sink,
                )
            return out

    return PagedAttention


def _rotation() -> type:
    from lmdeploy.pytorch.backends.default.apply_rotary_emb import DefaultApplyRotaryEmbImpl

    class Rotation(DefaultApplyRotaryEmbImpl):
        """As the kernel, also of a head's first part alone, of which the plain-torch operator knows nothing."""

        def __init__(self, spec: Any) -> None:
            super().__init__()

        def forward(
            self,
            query: Tensor,
            key: Tensor,
            cos: Tensor,
            sin: Tensor,
            inplace: bool = True,
            complex_mode: bool = False,
        ) -> tuple[Tensor, Tensor]:
            width = cos.size(-1) * (2 if complex_mode else 1)
            if width >= query.size(-1):
                return super().forward(query, key, cos, sin, inplace, complex_mode)
            # kernels/cuda/apply_rotary_pos_emb.py:135-151: of a new tensor the rest is left as it was allocated.
            rotated = [x if inplace else torch.full_like(x, math.nan) for x in (query, key)]
            parts = super().forward(query[..., :width], key[..., :width], cos, sin, False, complex_mode)
            for whole, part in zip(rotated, parts, strict=True):
                whole[..., :width] = part
            return rotated[0], rotated[1]

    return Rotation


def _experts() -> type:
    from lmdeploy.pytorch.backends.moe import FusedMoEImpl
    from torch.nn.functional import linear, silu

    class Experts(FusedMoEImpl):
        def __init__(self, spec: Any) -> None:
            self.renormalize = spec.renormalize

        def forward(
            self,
            hidden_states: Tensor,
            topk_weights: Tensor,
            topk_ids: Tensor,
            gate_up_weights: Tensor,
            down_weights: Tensor,
            gate_up_bias: Tensor | None = None,
            down_bias: Tensor | None = None,
            expert_list: Any = None,
            act_func: Callable[[Tensor], Tensor] | None = None,
        ) -> Tensor:
            if self.renormalize:
                topk_weights = topk_weights / topk_weights.sum(-1, keepdim=True)
            out = torch.zeros_like(hidden_states)
            for expert in topk_ids.unique().tolist():
                token, slot = (topk_ids == expert).nonzero(as_tuple=True)
                bias_up, bias_down = (None if b is None else b[expert] for b in (gate_up_bias, down_bias))
                x = linear(hidden_states[token], gate_up_weights[expert], bias_up)
                if act_func is None:
                    gate, up = x.chunk(2, -1)
                    x = silu(gate) * up
                else:
                    x = act_func(x)
                x = linear(x, down_weights[expert], bias_down)
                out.index_add_(0, token, (x * topk_weights[token, slot, None]).to(out.dtype))
            return out

    return Experts


def _interpret_triton() -> None:
    """Let LMDeploy's own CudaOpsBackend and Triton kernels work on CPU tensors, interpreted."""
    import lmdeploy.pytorch.kernels.cuda as kernels
    import triton.language as tl
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.interpreter import GridExecutor

    cuda: Any = torch.cuda
    cuda.graph_pool_handle = lambda: None  # backends/cuda/graph_runner/runner.py:130, even in eager mode
    for module in vars(kernels).values():
        # The interpreter replaces tl.exp2 and the like at launch; a name bound at import keeps the compiled one.
        for name, real in (("tl_exp2", "exp2"), ("fast_expf", "exp")):  # flashattention.py:19, activation.py:8
            if hasattr(module, name):
                setattr(module, name, lambda x, real=real: getattr(tl, real)(x))
        if hasattr(module, "tl_log2"):  # flashattention.py:18; also called with the constant math.e
            module.tl_log2 = lambda x: math.log2(x) if isinstance(x, float) else tl.log2(x)
        if hasattr(module, "is_cuda"):  # pagedattention.py:904 asks for Triton's driver, and there is none
            module.is_cuda = lambda: False
    Autotuner._bench = lambda self, *args, **kwargs: [0.0] * 3  # kernels/cuda/moe, awq_kernels.py: takes the first
    start = GridExecutor.__init__

    def start_grid(self: Any, fn: Any, names: Any, grid: Any, *rest: Any) -> None:
        start(self, fn, names, tuple(grid) if isinstance(grid, list) else grid, *rest)  # multinomial_sampling.py:82

    GridExecutor.__init__ = start_grid


def _private(obj: Any) -> Any:
    """Give the tensors of a dataclass their own storage, as a copy between host and card would."""
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name)
        if isinstance(value, Tensor):
            setattr(obj, field.name, value.clone())
    return obj


def _to_card(val: Any, non_blocking: bool = False) -> Any:
    if val is None or isinstance(val, Tensor):
        return val if val is None else val.clone()
    return _private(val.to_device("cpu"))


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; a device="cuda" among its keywords is read as "cpu"."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)

    return wrapped

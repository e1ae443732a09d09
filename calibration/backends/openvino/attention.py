"""Attention and its masks while a model is traced: what transformers asks for, in forms that OpenVINO knows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAME = "openvino"
_SINKS = ("s_aux", "sinks")
"""What transformers 5.23.0 calls the scores of each head to which attention goes that is lost."""


@contextmanager
def traceable_attention(model: Any) -> Iterator[None]:
    """Let the model make its masks and its attention by the functions below, until the block ends.

    A model whose class writes its attention out keeps it, and gets the same masks.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = {name: ALL_MASK_ATTENTION_FUNCTIONS[name] for name in ("sdpa", "eager")}
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    for name in (_NAME, *before):
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, _mask)
    try:
        if model._can_set_attn_implementation():
            model.set_attn_implementation(_NAME)
        yield
    finally:
        for name, function in before.items():
            ALL_MASK_ATTENTION_FUNCTIONS.register(name, function)


def _attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **more: Any) -> tuple[Any, Any]:
    """scaled_dot_product_attention, which alone becomes paged attention; what it cannot do is written out.

    With sinks that are weights it is written as GPT-OSS has it, which OpenVINO takes for scaled_dot_product_attention
    (2026.4.1 SDPAFusion); other models say the same otherwise. Inkling 2 computes its sinks from the tokens.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.models.gpt_oss import modeling_gpt_oss

    has_sinks = any(more.get(name) is not None for name in _SINKS)
    if not has_sinks and more.get("softcap") is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    own = sys.modules[type(module).__module__]
    learned = has_sinks and getattr(module, "sinks", None) is not None
    written_out: Any = vars(modeling_gpt_oss if learned else own)["eager_attention_forward"]
    made: tuple[Any, Any] = written_out(module, query, key, value, attention_mask, **more)
    return made


def _mask(
    batch_size: Any,
    q_length: Any,
    kv_length: Any,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Any = None,
    attention_mask: Any = None,
    **_: Any,
) -> Any:
    """What is added to the scores [batch, 1, new, all]: nothing where `mask_function` holds, else the least float32.

    The indices, the order of the conditions, the expansion and the slice stand as OpenVINO looks for them: of a sliding
    window that is written like this paged attention learns the window, and any other mask it takes for a causal one
    (gpt_oss_sliding_window_pattern in state_management_pattern.cpp of openvino 2026.4.1).

    Args:
        mask_function: whether a query sees a key, of the numbers of batch, head, query and key.
        attention_mask: of the keys [batch, all]; None: all are there.
    """
    import torch

    query = (torch.arange(q_length) + q_offset)[None, None, :, None]
    key = (torch.arange(kv_length) + kv_offset)[None, None, None, :]
    batch, head = torch.arange(batch_size)[:, None, None, None], torch.arange(1)[None, :, None, None]
    visible = query.new_ones((), dtype=torch.bool) & mask_function(batch, head, query, key)
    if attention_mask is not None:
        visible = visible & attention_mask[:, None, None, :].to(torch.bool)
    lowest = torch.finfo(torch.float32).min
    added = torch.where(visible.expand(batch_size, -1, q_length, kv_length), torch.zeros(()), lowest)
    return added[:, :, :, :kv_length]

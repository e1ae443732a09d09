"""The experts of a mixture while a model is traced: in a form of which OpenVINO computes the chosen ones alone."""

from typing import Any


def apply_experts(module: Any, hidden: Any, chosen: Any, weights: Any) -> Any:
    """All experts on all tokens, weighted, of which OpenVINO computes the chosen ones alone.

    It turns products with every expert into GatherMatmul where repetition, products, sum and scattered weights stand
    exactly like this (its pass ConvertTiledMoeBlockTo3GatherMatmuls), and would compute all of them otherwise. Experts
    with biases, or gated otherwise than by a product, do not stand like this, and all of them are computed.

    Args:
        module: experts of transformers, as its `use_experts_implementation` describes them.
        hidden: [tokens, hidden].
        chosen: numbers of experts [tokens, chosen].
        weights: theirs, [tokens, chosen].

    Returns:
        [tokens, hidden].
    """
    import torch

    count, size = module.num_experts, hidden.shape[-1]
    tokens = hidden.reshape(-1, size)
    repeated = tokens.repeat(count, 1).view(count, -1, size)
    down = module.down_proj if module.is_transposed else module.down_proj.transpose(1, 2)
    made = torch.bmm(_gated(module, repeated), down)
    if module.has_bias:
        made = made + module.down_proj_bias[:, None]
    if getattr(module, "has_post_expert_norm", False):
        made = module.post_expert_norm(made)
    made = made.view(count, 1, -1, size)
    shares = torch.zeros(tokens.shape[0], count).scatter(1, chosen, weights)
    return (made * shares.transpose(0, 1).reshape(count, 1, -1).unsqueeze(-1)).sum(dim=0).view(-1, size)


def _gated(module: Any, repeated: Any) -> Any:
    """What goes into the down projection, [experts, tokens, width]."""
    import torch
    from transformers.integrations import moe

    if not module.has_gate:
        return module.act_fn(_product(module, repeated, "up_proj"))
    plain = type(module)._apply_gate is moe._default_apply_gate and not module.has_bias and not module.is_transposed
    if not plain:
        return module._apply_gate(_product(module, repeated, "gate_up_proj"))
    width = module.gate_up_proj.shape[1] // 2
    gates, ups = module.gate_up_proj[:, :width], module.gate_up_proj[:, width:]
    gated = module.act_fn(torch.bmm(repeated, gates.transpose(1, 2)))
    return gated * torch.bmm(repeated, ups.transpose(1, 2))


def _product(module: Any, repeated: Any, name: str) -> Any:
    """Of all tokens with this weight of every expert."""
    import torch

    weight = getattr(module, name)
    made = torch.bmm(repeated, weight if module.is_transposed else weight.transpose(1, 2))
    return made + getattr(module, f"{name}_bias")[:, None] if module.has_bias else made

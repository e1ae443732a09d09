"""Which sizes TurboMind's matrix kernels take, of a whole model and of one that is divided among GPUs."""

from collections.abc import Iterator
from dataclasses import dataclass

from calibration.backends.turbomind.case import INT4, QWEN3_5, Case
from calibration.backends.turbomind.tensors import fused_inputs, quantised_modules

_BLOCK = 128
"""Rows and columns of an fp8 block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """What a kernel asks of a matrix, on each GPU: the least inputs, and what inputs and outputs are divisible by."""

    least_inputs: int
    inputs: int
    outputs: int


def misshapen(case: Case, ways: int = 1) -> list[str]:
    """`needs X; found Y`, for each size that no kernel takes when the model is divided among `ways` GPUs."""
    return list(_whole(case) if ways == 1 else _divided(case, ways))


def _whole(case: Case) -> Iterator[str]:
    model, sizes = case.model, _kernel_sizes(case)
    if model.quant.method == "fp8":
        yield from _uneven_blocks(case)
    for what, size in (("a hidden size", model.hidden_size), ("heads x head_dim", _attended(case)), *_inner(case)):
        if size % sizes.inputs:
            yield f"needs {what} divisible by {sizes.inputs}; found {size}"
        elif 0 < size < sizes.least_inputs:
            yield f"needs {what} of {sizes.least_inputs} or more; found {size}"
    yield from _fused(case, 1)


def _divided(case: Case, ways: int) -> Iterator[str]:
    """Attention's heads are divided, and with them the inputs of its last matrix; the rest is padded.

    builders/_base.py:303-312 for what is asked of each GPU's part, builders/ffn.py:48-78 for what is padded.
    """
    sizes, attended = _kernel_sizes(case), _attended(case)
    if attended % (sizes.inputs * ways):
        yield f"needs heads x head_dim divisible by {sizes.inputs} x {ways} GPUs; found {attended}"
    elif 0 < attended < sizes.least_inputs * ways:
        yield f"needs heads x head_dim of {sizes.least_inputs} x {ways} GPUs or more; found {attended}"
    for what, size in _inner(case):
        padded = -(-size // (_BLOCK * ways)) * _BLOCK
        if 0 < padded < sizes.least_inputs:
            yield f"needs {what} above {(sizes.least_inputs - _BLOCK) * ways} among {ways} GPUs; found {size}"
    if case.model.architecture in QWEN3_5:
        for name, default in (("linear_num_key_heads", 16), ("linear_num_value_heads", 32)):
            if (heads := case.config.whole(name, default)) % ways:
                yield f"needs {name} divisible by {ways}; found {heads}"
    yield from _fused(case, ways)


def _kernel_sizes(case: Case) -> _Sizes:
    """As `Gemm.get_weight_plan(...).shape_constraints` answers for the format on the GPU."""
    quant, on_hopper = case.model.quant, case.capability == (9, 0)
    if quant.method in INT4:
        if on_hopper:
            return _Sizes(least_inputs=128, inputs=max(quant.group_size or 128, 64), outputs=64)
        return _Sizes(least_inputs=0, inputs=quant.group_size or 128, outputs=8)
    if quant.method == "fp8":
        return _Sizes(least_inputs=256 if on_hopper else 0, inputs=_BLOCK, outputs=_BLOCK)
    return _Sizes(least_inputs=0, inputs=8, outputs=8)


def _attended(case: Case) -> int:
    """Inputs of attention's last matrix; 0 where it is not told, or where MLA folds it into others."""
    model = case.model
    if model.architecture == "Glm4MoeLiteForCausalLM" or model.unknown & {"heads", "head_dim"}:
        return 0
    return model.heads * model.head_dim


def _inner(case: Case) -> tuple[tuple[str, int], ...]:
    """The inputs of an MLP's last matrix in fp8; those of other formats are padded as needed (builders/ffn.py:48)."""
    model = case.model
    if model.quant.method != "fp8":
        return ()
    return (("an intermediate size", model.expert_intermediate_size if model.experts else model.intermediate_size),)


def _uneven_blocks(case: Case) -> Iterator[str]:
    model = case.model
    # models/utils.py reorder_rotary_emb takes the scales of narrower heads in pairs.
    if model.head_dim == 64 and (model.heads % 4 or model.kv_heads % 4):
        yield f"needs heads divisible by 4 for fp8 blocks and head_dim 64; found {model.heads} and {model.kv_heads}"


def _fused(case: Case, ways: int) -> Iterator[str]:
    """Linear attention's four input matrices are one; where all are quantised, so is that one.

    Found by loading: with other outputs there is no plan for 4 bits or fp8, and its C++ aborts (`Check failed:
    exec_plan`), or builders/_base.py:313 raises.
    """
    method, on_hopper = case.model.quant.method, case.capability == (9, 0)
    if case.model.architecture not in QWEN3_5 or method not in (*INT4, "fp8"):
        return
    names = [fused_inputs(layer) for layer in range(case.model.layers)]
    if not any(len(quantised_modules(case, modules)) == len(modules) for modules in names):
        return
    if method == "fp8" and ways > 1:
        # builders/deltanet.py:46 divides the scales, of which in_proj_b and in_proj_a have one row each.
        yield "needs in_proj_b and in_proj_a left plain among several GPUs; found them in fp8"
        return
    keys, values = (case.config.whole(f"linear_num_{what}_heads", n) for what, n in (("key", 16), ("value", 32)))
    key_dim, value_dim = (case.config.whole(f"linear_{what}_head_dim", 128) for what in ("key", "value"))
    outputs = 2 * (keys * key_dim + values * value_dim + values)
    divisor = (1 if on_hopper else 16) if method == "fp8" else 64 if on_hopper else 32
    if outputs % (divisor * ways):
        among = f" x {ways} GPUs" if ways > 1 else ""
        yield f"needs outputs of linear attention's four inputs together divisible by {divisor}{among}; found {outputs}"

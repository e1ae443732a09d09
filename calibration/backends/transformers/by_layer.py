"""A model of any size in any memory: the weights of one layer at a time, read from the checkpoint when they are due.

transformers' own loaders hold all weights or write them once more: the disk offload reads plain layers from the
checkpoint, but saves the experts of a mixture anew, since the checkpoint has them one by one (transformers 5.23.0,
integrations/accelerate.py, offload_and_maybe_resave_param). The names, and how experts are put together, come from
transformers' loader here too; it is handed the tensors of one layer instead of all.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from calibration.backend import Rows
from calibration.backends.transformers.decode_loop import DecodeLoop
from calibration.backends.transformers.turns import Turns


@dataclass(slots=True, kw_only=True, eq=False)
class Part:
    """A layer, or what stands alone: the embeddings, a norm, the head."""

    name: str
    """Of its module in the model."""
    parameters: tuple[str, ...]
    keys: list[str] = field(default_factory=list)
    """Of the checkpoint's tensors that make its weights."""
    tied: dict[str, str] = field(default_factory=dict)
    """Parameter: the parameter of another part whose weights it has."""


class LayeredLoop(DecodeLoop):
    """The decode loop over a model that holds one part's weights at a time; several prompts share each part.

    Args:
        folder: of a checkpoint in safetensors.
        dtype: of torch, that is computed in.
    """

    def __init__(
        self, folder: Path, *, dtype: Any, attn_implementation: str, trust_remote_code: bool, threads: int
    ) -> None:
        self._weights = _Weights(folder, dtype, attn_implementation, trust_remote_code)
        self._turns = Turns(self._weights.hold)
        self._threads = threads
        embeddings = self._weights.model.get_input_embeddings()
        self._first: Part | None = None
        for part in self._weights.parts:
            module = self._weights.model.get_submodule(part.name)
            module.register_forward_pre_hook(partial(self._need, part))
            if module is embeddings:
                self._first = part
        super().__init__(self._weights.model, "cpu", compiled=False, max_tokens=0)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> Rows:
        """In one forward, since each reads all weights."""
        import torch

        wanted = len(continuation) + 1
        with self._without_grad():
            last = dict.fromkeys(self._last_only, wanted)
            self._begin()
            out = self._model(input_ids=torch.tensor([[*prompt, *continuation]]), use_cache=False, **last)
            return list(out.logits[0, -wanted:].float())

    def score_each(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> Iterator[Rows | None]:
        pairs = zip(prompts, continuations, strict=True)
        yield from self._together(partial(self.score, prompt, continuation) for prompt, continuation in pairs)

    def score_greedy_each(
        self, prompts: Sequence[Sequence[int]], new_tokens: int
    ) -> Iterator[tuple[Sequence[int], Rows | None]]:
        yield from self._together(partial(self.score_greedy, prompt, new_tokens) for prompt in prompts)

    def _forward(self, given: Any, cache: Any, past: int) -> tuple[Any, Any]:
        self._begin()
        return super()._forward(given, cache, past)

    def _begin(self) -> None:
        """Have the embeddings before the forward: Llama 4 and others move the tokens to where they find them first."""
        if self._first is not None:
            self._need(self._first)

    def _together(self, computations: Iterable[Callable[[], Any]]) -> list[Any]:
        return self._turns.take([partial(self._on_all_threads, computation) for computation in computations])

    def _on_all_threads(self, computation: Callable[[], Any]) -> Any:
        import torch

        torch.set_num_threads(self._threads)  # each thread of Python has its own number
        return computation()

    def _need(self, part: Part, *_: Any) -> None:
        self._turns.need(part)


class _Weights:
    """An empty model, and the checkpoint that its parts are filled from."""

    def __init__(self, folder: Path, dtype: Any, attn_implementation: str, trust_remote_code: bool) -> None:
        from accelerate import init_empty_weights
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.utils import logging

        logging.disable_progress_bar()  # there would be one for each layer of each pass
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with init_empty_weights(include_buffers=False):
            self.model: Any = AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation=attn_implementation, trust_remote_code=trust_remote_code
            )
        self.model.eval()
        self._dtype = dtype
        self._files = _files(folder)
        self._conversions: Any = get_model_conversion_mapping(self.model)
        self._kept_wide = self.model._get_dtype_plan(dtype)
        self.parts, rest = _parts(self.model)
        self._assign([*self.parts, rest])
        self._held: Part | None = None
        self._fill(rest)

    def hold(self, part: Part) -> None:
        """Have this part's weights in memory, and no other's."""
        if self._held is not None:
            self._empty(self._held)
        self._held = part
        self._fill(part)

    def _fill(self, part: Part) -> None:
        """Read a part's weights.

        Raises:
            ValueError: the checkpoint has not all of them.
        """
        from safetensors import safe_open
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        with ExitStack() as opened:
            files: dict[Path, Any] = {}
            for file in {self._files[key] for key in part.keys}:
                # The pages of a mapped file count as the process's memory until it is closed: none stays open.
                files[file] = opened.enter_context(safe_open(file, framework="pt"))
            loaded, _ = convert_and_load_state_dict_in_model(
                self.model,
                {key: files[self._files[key]].get_slice(key) for key in part.keys},
                LoadStateDictConfig(dtype=self._dtype, dtype_plan=self._kept_wide, weight_mapping=self._conversions),
            )
        troubles = [*loaded.conversion_errors.values(), *map(str, loaded.mismatched_keys), *loaded.error_msgs]
        for parameter, source in part.tied.items():
            _set(self.model, parameter, self.model.get_parameter(source))
        troubles += [f"{name} is missing" for name in part.parameters if self.model.get_parameter(name).is_meta]
        if troubles:
            raise ValueError(f"{part.name or 'the model'} cannot be read from its checkpoint: {troubles[0]}")

    def _empty(self, part: Part) -> None:
        import torch

        for name in (*part.parameters, *part.tied.values()):
            held = self.model.get_parameter(name)
            _set(self.model, name, torch.nn.Parameter(torch.empty_like(held, device="meta"), requires_grad=False))

    def _assign(self, parts: Sequence[Part]) -> None:
        """Find out which of the checkpoint's tensors make each part."""
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        expected = self.model.state_dict()
        renamings = [c for c in self._conversions if isinstance(c, WeightRenaming)]
        converters = [c for c in self._conversions if isinstance(c, WeightConverter)]
        prefix = self.model.base_model_prefix
        makes: dict[str, list[str]] = {}
        for key in self._files:
            target, _ = rename_source_key(key, renamings, converters, prefix, expected)
            if target not in expected and key in expected:
                target, _ = rename_source_key(key, [], [], prefix, expected)
            makes.setdefault(target, []).append(key)
        tied = dict(self.model.all_tied_weights_keys)
        tied |= {source: target for target, source in tied.items() if source not in makes and target in makes}
        owner = {parameter: part for part in parts for parameter in part.parameters}
        for target, keys in makes.items():
            # A buffer belongs to the part that its module is of.
            part = owner.get(target) or next(
                (p for p in parts if p.name and target.startswith(f"{p.name}.")), parts[-1]
            )
            if target in expected:
                part.keys += keys
        for part in parts:
            part.tied = {name: tied[name] for name in part.parameters if name not in makes and tied.get(name) in makes}
            part.keys += [key for source in part.tied.values() for key in makes[source]]


def _parts(model: Any) -> tuple[list[Part], Part]:
    """The layers and what stands alone; and the parameters that a container of them holds itself, which stay."""
    from torch import nn

    parts: list[Part] = []
    rest: list[str] = []

    def walk(name: str, module: Any, *, is_layer: bool) -> None:
        own = [f"{name}.{parameter}".lstrip(".") for parameter, _ in module.named_parameters(recurse=False)]
        children = list(module.named_children())
        if name and (is_layer or not children):
            names = [f"{name}.{parameter}" for parameter, _ in module.named_parameters(remove_duplicate=False)]
            if names:
                parts.append(Part(name=name, parameters=tuple(names)))
            return
        rest.extend(own)
        for child_name, child in children:
            walk(f"{name}.{child_name}".lstrip("."), child, is_layer=isinstance(module, nn.ModuleList))

    walk("", model, is_layer=False)
    return parts, Part(name="", parameters=tuple(rest))


def _around(buffer: str, parts: Sequence[Part]) -> Part:
    """The part whose module a buffer is of; the last one is of the whole model."""
    return next((part for part in parts if buffer.startswith(f"{part.name}.")), parts[-1])


def _files(folder: Path) -> dict[str, Path]:
    """Each tensor of a checkpoint, and the file that has it.

    Raises:
        ValueError: it is not in safetensors.
    """
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in places.items()}
    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"needs weights in safetensors to read them layer by layer; found none in {folder}")
    with safe_open(file, framework="pt") as opened:
        return dict.fromkeys(opened.keys(), file)


def _set(model: Any, name: str, parameter: Any) -> None:
    module, _, own = name.rpartition(".")
    setattr(model.get_submodule(module), own, parameter)

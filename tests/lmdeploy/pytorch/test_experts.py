"""What 16 bits do to a mixture of experts: tokens whose experts are nearly equal go to others, and little else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from calibration.backends.pytorch import PyTorch
from calibration.check.agreement import NEW_TOKENS, fixed_prompts
from tests.lmdeploy.conftest import Checkpoints
from tests.lmdeploy.jobs import a_job
from tests.lmdeploy.tiny_checkpoints import VOCAB

pytestmark = [pytest.mark.lmdeploy, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def standins() -> None:
    from tests.lmdeploy.stand_ins import lmdeploy_cpu

    lmdeploy_cpu.install("torch")


class Routing:
    """The engine's choice of experts, kept or given: in the order of its calls."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.given: list[Any] = []

    def forward(self, router: Any, logits: Any) -> tuple[Any, Any]:
        """As lmdeploy 0.18.0 pytorch/backends/default/moe.py has it, but for experts that are given."""
        import torch

        shares = torch.softmax(logits, dim=-1, dtype=torch.float32)
        _, experts = torch.topk(shares, router.top_k, dim=-1)
        experts = self.given.pop(0) if self.given else experts
        self.kept.append(experts)
        return shares.gather(-1, experts), experts


def scored(folder: Path, dtype: str, routing: Routing, given: Sequence[Any] = ()) -> Any:
    """float64 [prompt, step, token] log-probabilities along fixed paths; what was chosen is kept in `routing`."""
    import numpy as np

    backend = PyTorch()
    engine = backend.load(a_job(backend, folder, "eager", dtype=dtype, max_batch=1))
    routing.kept, routing.given = [], list(given)  # loading tries a forward, too
    path = list(range(7, 7 + NEW_TOKENS))
    rows = [engine.score(prompt, path[:-1]) for prompt in fixed_prompts(VOCAB, 256)]
    engine.close()
    scores = np.array([[list(row) for row in of_prompt] for of_prompt in rows if of_prompt], dtype=np.float64)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def test_rounding_sends_tokens_to_other_experts_and_is_small_otherwise(
    standins: None, checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmdeploy.pytorch.backends.default.moe import DefaultSoftmaxTopKImpl

    routing = Routing()

    def routed(router: Any, logits: Any) -> tuple[Any, Any]:
        return routing.forward(router, logits)

    monkeypatch.setattr(DefaultSoftmaxTopKImpl, "forward", routed)
    folder = checkpoint("mixtral", dtype="bfloat16", num_hidden_layers=4, num_experts_per_tok=1, num_local_experts=8)

    exact = scored(folder, "float32", routing)
    chosen = [*routing.kept]
    rounded = scored(folder, "bfloat16", routing)
    elsewhere = sum(int((ours != theirs).sum()) for ours, theirs in zip(chosen, routing.kept, strict=True))
    routed_alike = scored(folder, "bfloat16", routing, chosen)
    assert routing.given == []

    free, alike = ((2.718281828**exact * (exact - one)).sum(-1) for one in (rounded, routed_alike))
    assert elsewhere > 0
    assert free.max() > 10 * alike.max()
    assert alike.max() < 1e-3

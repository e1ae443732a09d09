"""Workload: how many prompt tokens, output tokens and sequences at once; its label is llama-bench's."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from calibration.errors import UsageError

_LABEL = re.compile(r"pp(\d{1,7}):tg(\d{1,7})(?::b(\d{1,5}))?")
_MEND = "write it as pp512:tg128:b1 (prompt tokens, output tokens, batch) or name one of: "


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Workload:
    """One generate call: `batch` prompts of `prompt_tokens` each, `output_tokens` new tokens for each of them."""

    prompt_tokens: int
    output_tokens: int
    batch: int = 1

    def __post_init__(self) -> None:
        for name, least, value in (
            ("prompt tokens", 1, self.prompt_tokens),
            ("output tokens", 1, self.output_tokens),
            ("batch", 1, self.batch),
        ):
            if value < least:
                raise UsageError(f"a workload needs {name} >= {least}; found {value}")

    @property
    def label(self) -> str:
        return f"pp{self.prompt_tokens}:tg{self.output_tokens}:b{self.batch}"

    @property
    def context_tokens(self) -> int:
        """Tokens of one sequence when its last one is generated."""
        return self.prompt_tokens + self.output_tokens

    @classmethod
    def knows(cls, text: str) -> bool:
        """Whether the text has the form of a label, or is a standard name."""
        return text in STANDARD or _LABEL.fullmatch(text.strip()) is not None

    @classmethod
    def parse(cls, text: str) -> "Workload":
        """Read a label or a standard name.

        Raises:
            UsageError: the text is neither.

        >>> Workload.parse("pp512:tg128:b4")
        Workload(prompt_tokens=512, output_tokens=128, batch=4)
        >>> Workload.parse("chat").label
        'pp512:tg128:b1'
        """
        if text in STANDARD:
            return STANDARD[text]
        label = _LABEL.fullmatch(text.strip())
        if not label:
            raise UsageError(f"unknown workload {text!r}", _MEND + ", ".join(STANDARD))
        prompt, output, batch = label.groups()
        return cls(prompt_tokens=int(prompt), output_tokens=int(output), batch=int(batch or 1))


STANDARD: dict[str, Workload] = {
    "chat": Workload(prompt_tokens=512, output_tokens=128),
    "summarize": Workload(prompt_tokens=1024, output_tokens=64),
    "write": Workload(prompt_tokens=64, output_tokens=512),
    "batch": Workload(prompt_tokens=512, output_tokens=128, batch=4),
}
"""Ordinary uses under a name; `chat` is what `select` answers for when no workload is given."""

DEFAULT = STANDARD["chat"]

CELL_OUTPUT_TOKENS = 32
"""New tokens in a calibration cell: enough decode steps for a steady TPOT, few enough to be quick."""


OTHER_BATCH = 4
"""Beside batch 1 on a GPU: far enough from 1 to tell the cost of a sequence, with little more memory for its cache."""


def grid(workloads: Iterable[Workload] = (), *, gpu: bool = False) -> tuple[Workload, ...]:
    """The calibration cells that bracket `workloads`: every corner of prompt length and batch around them.

    Four cells that bracket the use pick an engine at 1.005 of the best, six at 1.001; cells of batch 1 alone, asked for
    batches of 16 and more, at 1.22 (geometric means on argonne-lcf/LLM-Inference-Bench, cells never calibrated, without
    the rows that are wrong there: all of llama.cpp with a batch over 1 time one sequence). Without workloads the cells
    bracket ordinary use: pp64 to pp512 and batch 1 to 4 on a CPU, pp128 to pp2048 and batch 1 to 16 on a GPU.

    On a GPU there are always two batches: where uses have one, batch 1 stands beside it, or OTHER_BATCH beside 1. One
    batch cannot tell what a step costs from what each sequence adds to it.

    >>> [cell.label for cell in grid([Workload.parse("pp1024:tg64:b4"), Workload.parse("pp128:tg32:b1")])]
    ['pp128:tg32:b1', 'pp1056:tg32:b1', 'pp128:tg32:b4', 'pp1056:tg32:b4']
    """
    uses = tuple(workloads)
    if not uses:
        prompts, batches = ((128, 2048), (1, 16)) if gpu else ((64, 512), (1, 4))
    else:
        # A decode step's cost grows with its context, so the cells must reach the context at the end of the output.
        longest = max(use.context_tokens for use in uses) - CELL_OUTPUT_TOKENS
        prompts = (min(use.prompt_tokens for use in uses), max(longest, *(use.prompt_tokens for use in uses)))
        batches = (min(use.batch for use in uses), max(use.batch for use in uses))
        if gpu and batches[0] == batches[1]:
            batches = (1, batches[1] if batches[1] > 1 else OTHER_BATCH)
        if prompts[1] < 2 * prompts[0]:
            # Two lengths this close tell a fixed cost from a cost per token badly; a short prompt is cheap to add.
            prompts = (max(1, prompts[0] // 4), prompts[1])
    return tuple(
        Workload(prompt_tokens=prompt, output_tokens=CELL_OUTPUT_TOKENS, batch=batch)
        for batch in sorted(set(batches))
        for prompt in sorted(set(prompts))
    )

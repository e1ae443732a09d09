"""How a worker answers the correctness check: greedy paths, choices after each prefix, rows of scores."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.backend import Engine

Generate = Callable[[list[list[int]], int], list[list[int]]]
"""Prompts of one batch and a number of new tokens -> the new tokens of each prompt."""


def refer(engine: "Engine", *, prompts: list[list[int]], new_tokens: int, rows_file: str) -> dict[str, Any]:
    """Answer as the reference: each prompt's greedy path, and its rows of scores as `answer` writes them."""
    paths: list[list[int]] = []
    shape: list[int] | None = None
    with Path(rows_file).open("wb") as file:
        for prompt in prompts:
            path, rows = engine.score_greedy(prompt, new_tokens)
            paths.append([int(token) for token in path])
            shape = None if rows is None else _write_rows(rows, new_tokens, file)
    return {"paths": paths, "rows": shape}


def answer(
    engine: "Engine",
    generate: Generate,
    *,
    prompts: list[list[int]],
    groups: list[list[int]],
    new_tokens: int,
    continuations: list[list[int]] | None,
    rows_file: str,
    once: Sequence[int] = (),
    told_by_scores: Sequence[int] = (),
) -> dict[str, Any]:
    """Generate for each group of prompts (given by number) as one batch; score each prompt along a continuation.

    Without continuations each prompt's own tokens, where it first occurs, are its continuation. With them the
    tokens are what the engine chooses after each prefix of them: where a batch leaves them it is asked again from
    there on. Rows go to `rows_file` as float32 [prompt, new_tokens, vocab].

    Args:
        once: the last prompts, that are long: their paths end where they leave the continuation, and an engine that
            does not score long prompts does not score them.
        told_by_scores: prompts that an engine whose scores are its steps does not generate.
    """
    along, tokens = continuations, list[list[list[int]]]()
    if along is None:
        tokens = [generate([prompts[i] for i in group], new_tokens) for group in groups]
        first = {
            i: path
            for group, paths in reversed(list(zip(groups, tokens, strict=True)))
            for i, path in zip(group, paths, strict=True)
        }
        along = [first[i][:-1] for i in range(len(prompts))]
    else:
        for group in groups:
            long = bool(set(group) & set(once))
            told = bool(set(group) & set(told_by_scores)) and engine.scores_its_steps
            spared = told and (engine.scores_long_prompts or not long)
            asked, right = [prompts[i] for i in group], [along[i] for i in group]
            tokens.append([] if spared else choices(generate, asked, right, again=not long))
    shape: list[int] | None = None
    best: list[list[int]] = []
    with Path(rows_file).open("wb") as file:
        for number, (prompt, continuation) in enumerate(zip(prompts, along, strict=True)):
            if number in once and not engine.scores_long_prompts:
                break
            rows = engine.score(prompt, continuation)
            if rows is None:
                shape = None
                break
            best.append([_best(row) for row in rows])
            shape = _write_rows(rows, len(continuation) + 1, file)
    for number, group in enumerate(groups):
        if not tokens[number]:
            asked, right = [prompts[i] for i in group], [along[i] for i in group]
            long = bool(set(group) & set(once))
            tokens[number] = [best[i] for i in group] if shape else choices(generate, asked, right, again=not long)
    return {"tokens": tokens, "rows": shape}


def choices(generate: Generate, group: list[list[int]], along: list[list[int]], *, again: bool) -> list[list[int]]:
    """The token chosen after each prefix of a continuation, [prompt][step], in one batch.

    A path that equals its continuation answers for all its prefixes in one call; one that leaves it does so up to
    there, and the batch is asked anew after the continuation's own token: for as many as it has just got right and
    one more, since one that leaves it often would compute most tokens in vain.

    Args:
        again: False: it ends where a path leaves its continuation.
    """
    steps = wanted = len(along[0]) + 1
    chosen: list[list[int]] = [[] for _ in group]
    while len(chosen[0]) < steps:
        done = len(chosen[0])
        given = [prompt + path[:done] for prompt, path in zip(group, along, strict=True)]
        made = generate(given, min(wanted, steps - done))
        same = min(_shared(row, path[done:]) for row, path in zip(made, along, strict=True))
        wanted = same + 1
        for path, tokens in zip(chosen, made, strict=True):
            path.extend(tokens[: same + 1])
        if not again:
            break
    return chosen


def _shared(path: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return next((i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a != b), min(len(path), len(other)))


def _best(row: Any) -> int:
    """The token with the highest score."""
    if hasattr(row, "argmax"):  # torch, numpy
        return int(row.argmax())
    return max(range(len(row)), key=row.__getitem__)


def _write_rows(rows: Iterable[Any], count: int, file: IO[bytes]) -> list[int]:
    """Write a prompt's rows; returns their number and width.

    Raises:
        ValueError: there are not `count` of one width.
    """
    widths = [_write_row(row, file) for row in rows]
    if len(widths) != count or set(widths) != {widths[0]}:
        raise ValueError(f"score gave rows of {widths} scores; {count} of one width are due")
    return [len(widths), widths[0]]


def _write_row(row: Any, file: IO[bytes]) -> int:
    """Write one row of scores as float32; returns its width."""
    if hasattr(row, "detach"):  # torch
        row = row.detach().float().cpu().contiguous().numpy()
    if hasattr(row, "astype"):  # numpy
        row = row.astype("float32")
        file.write(row.tobytes())
        return int(row.shape[-1])
    values = array("f", row)
    file.write(values.tobytes())
    return len(values)

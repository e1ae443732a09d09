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
        for path, rows in engine.score_greedy_each(prompts, new_tokens):
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
    long_prompts: Sequence[int] = (),
    scored_prompts: Sequence[int] = (),
) -> dict[str, Any]:
    """Generate for each group of prompts (given by number) as one batch; score each prompt along a continuation.

    Without continuations the tokens that the engine generates after a prompt, where it first occurs, are the prompt's
    continuation. With continuations the answer is the token that the engine chooses after each prefix of them. Rows go
    to `rows_file` as float32 [prompt, new_tokens, vocab].

    Args:
        long_prompts: the last ones. Their paths end where they leave the continuation, and an engine that does not
            score long prompts does not score them.
        scored_prompts: prompts for which an engine whose scores are its steps need not generate: their choices are the
            likeliest tokens of their rows.
    """
    if continuations is None:
        tokens = [generate([prompts[i] for i in group], new_tokens) for group in groups]
        _, shape = _score(engine, prompts, _own_continuations(groups, tokens), rows_file, long_prompts)
        return {"tokens": tokens, "rows": shape}

    def choose(group: list[int]) -> list[list[int]]:
        is_long = any(i in long_prompts for i in group)
        return choices(generate, [prompts[i] for i in group], [continuations[i] for i in group], again=not is_long)

    def needs_no_generating(group: list[int]) -> bool:
        is_long = any(i in long_prompts for i in group)
        are_scored = engine.scores_its_steps and any(i in scored_prompts for i in group)
        return are_scored and (engine.scores_long_prompts or not is_long)

    chosen = [None if needs_no_generating(group) else choose(group) for group in groups]
    likeliest, shape = _score(engine, prompts, continuations, rows_file, long_prompts)
    for number, group in enumerate(groups):
        if chosen[number] is None:
            chosen[number] = [likeliest[i] for i in group] if shape else choose(group)
    return {"tokens": chosen, "rows": shape}


def choices(
    generate: Generate, prompts: list[list[int]], continuations: list[list[int]], *, again: bool
) -> list[list[int]]:
    """The token chosen after each prefix of a continuation, [prompt][step], in one batch.

    A path that equals its continuation answers for all its prefixes in one call. A path that leaves its continuation
    answers for the prefixes up to there; the batch is then asked anew after the continuation's own token, for as many
    tokens as it has just got right and one more: a path that leaves often would compute most tokens in vain.

    Args:
        again: False: do not ask anew; the answer ends where a path leaves its continuation.
    """
    steps = wanted = len(continuations[0]) + 1
    chosen: list[list[int]] = [[] for _ in prompts]
    while len(chosen[0]) < steps:
        done = len(chosen[0])
        prefixes = [prompt + path[:done] for prompt, path in zip(prompts, continuations, strict=True)]
        generated = generate(prefixes, min(wanted, steps - done))
        same = min(_shared(row, path[done:]) for row, path in zip(generated, continuations, strict=True))
        wanted = same + 1
        for path, tokens in zip(chosen, generated, strict=True):
            path.extend(tokens[: same + 1])
        if not again:
            break
    return chosen


def _own_continuations(groups: list[list[int]], tokens: list[list[list[int]]]) -> list[list[int]]:
    """Of each prompt the tokens generated after it where it first occurs, without the last."""
    first: dict[int, list[int]] = {}
    for group, paths in zip(groups, tokens, strict=True):
        for prompt, path in zip(group, paths, strict=True):
            first.setdefault(prompt, path[:-1])
    return [first[prompt] for prompt in range(len(first))]


def _score(
    engine: "Engine",
    prompts: list[list[int]],
    continuations: list[list[int]],
    rows_file: str,
    long_prompts: Sequence[int],
) -> tuple[list[list[int]], list[int] | None]:
    """Write the rows of scores along the continuations.

    Returns:
        The likeliest tokens of the rows, [prompt][step], and the shape of a prompt's rows; None: there are no scores.
    """
    likeliest: list[list[int]] = []
    shape: list[int] | None = None
    with Path(rows_file).open("wb") as file:
        scored = len(prompts) if engine.scores_long_prompts else len(prompts) - len(long_prompts)
        for continuation, rows in zip(
            continuations[:scored], engine.score_each(prompts[:scored], continuations[:scored]), strict=True
        ):
            if rows is None:
                return likeliest, None
            likeliest.append([_best(row) for row in rows])
            shape = _write_rows(rows, len(continuation) + 1, file)
    return likeliest, shape


def _shared(path: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a != b), min(len(path), len(other)))


def _best(row: Any) -> int:
    """The token with the highest score."""
    if hasattr(row, "argmax"):  # torch, numpy
        return int(row.argmax())
    return max(range(len(row)), key=row.__getitem__)


def _write_rows(rows: Iterable[Any], count: int, file: IO[bytes]) -> list[int]:
    """Write a prompt's rows; returns their number and width.

    Raises:
        ValueError: there are not `count` rows of one width.
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

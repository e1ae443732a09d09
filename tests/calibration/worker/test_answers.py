"""What a worker asks of its engine for the correctness check."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from calibration.backend import Engine
from calibration.worker.answers import Generate, answer, choices
from tests.calibration.tiny_engines.scripted import CountingEngine, next_token


def generating(engine: Engine, asked: list[int] | None = None) -> Generate:
    """The engine's own tokens.

    Args:
        asked: takes how many each call asked for.
    """

    def generate(group: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        if asked is not None:
            asked.append(new_tokens)
        return [list(row) for row in engine.generate(group, new_tokens).tokens]

    return generate


@pytest.mark.parametrize(
    ("its_steps", "long", "calls", "scored"), [(True, True, 1, 2), (False, True, 2, 2), (False, False, 2, 1)]
)
def test_a_long_prompt_is_generated_and_scored_only_where_both_tell_something(
    its_steps: bool, long: bool, calls: int, scored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingEngine, "scores_its_steps", its_steps)
    monkeypatch.setattr(CountingEngine, "scores_long_prompts", long)
    engine = CountingEngine({})
    prompts = [[3, 4, 5], [7] * 30]
    paths = [[next_token(prompt)] for prompt in prompts]
    for prompt, path in zip(prompts, paths, strict=True):
        path.append(next_token([*prompt, *path]))
    rows = tmp_path / "rows.f32"
    told = answer(
        engine,
        generating(engine),
        prompts=prompts,
        groups=[[0], [1]],
        new_tokens=2,
        continuations=[path[:1] for path in paths],
        rows_file=str(rows),
        long_prompts=[1],
        scored_prompts=[1],
    )
    assert told == {"tokens": [[paths[0]], [paths[1]]], "rows": [2, 64]}
    assert engine.calls == calls
    assert rows.stat().st_size == scored * 2 * 64 * 4


def test_a_choice_is_asked_for_after_every_prefix_of_a_path_that_is_left() -> None:
    """Along a path that the engine takes nowhere, every call after the first is for one token."""
    asked: list[int] = []
    generate = generating(CountingEngine({}), asked)
    prompt, along = [3, 4, 5], [9, 9, 9]
    prefixes = [[*prompt, *along[:n]] for n in range(4)]
    assert choices(generate, [prompt], [along], again=True) == [[next_token(prefix) for prefix in prefixes]]
    assert asked == [4, 1, 1, 1]

    asked.clear()
    along = [next_token(prompt), next_token([*prompt, next_token(prompt)]), 9, 9]
    prefixes = [[*prompt, *along[:n]] for n in range(5)]
    assert choices(generate, [prompt], [along], again=True) == [[next_token(prefix) for prefix in prefixes]]
    assert asked == [5, 2, 1]

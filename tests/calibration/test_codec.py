"""What is stored and what goes to a worker: it comes back equal, and what is malformed is refused with its field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Job, Variant
from calibration.codec import LEAST, from_plain, to_plain
from calibration.registry import all_backends
from calibration.worker.opening import Opening
from calibration.workload import Workload


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    share: float = 0.0
    below: float | None = field(default=None, metadata={LEAST: -1})
    colour: Colour = Colour.RED
    place: Path | None = None
    inner: Inner | None = None
    inners: tuple[Inner, ...] = field(default=(), metadata={LEAST: 1})
    numbers: tuple[int, ...] = ()
    kinds: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    sure: bool = False


WHOLE = Outer(
    name="a",
    share=0.5,
    below=-0.5,
    colour=Colour.BLUE,
    place=Path("/a/b"),
    inner=Inner(number=1),
    inners=(Inner(number=2), Inner(number=3)),
    numbers=(4, 5),
    kinds=frozenset("hgfedcba"),
    texts={"b": "c"},
    options={"d": [1, {"e": None}], "f": True},
    weights={"g": 0.0},
    sure=True,
)


def test_every_kind_of_field_comes_back_through_json() -> None:
    assert {f.name for f in fields(Outer) if getattr(WHOLE, f.name) == getattr(Outer(name="a"), f.name)} == {"name"}
    plain = to_plain(WHOLE)
    assert plain["kinds"] == list("abcdefgh")
    assert from_plain(Outer, json.loads(json.dumps(plain))) == WHOLE


def test_what_is_left_out_has_its_default() -> None:
    assert from_plain(Outer, {"name": "a"}) == Outer(name="a")
    assert from_plain(Outer, {"name": "a", "place": None, "share": 1}) == Outer(name="a", share=1.0)


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ([], "needs an object; found []"),
        ({}, "needs the field name; found none"),
        ({"name": "a", "inner": {}}, "needs the field inner.number; found none"),
        ({"name": "a", "inner": 1}, "needs an object in inner; found 1"),
        ({"name": "a", "inners": [{"number": 1}, {"n": 1}]}, "knows no field inners[1].n"),
        ({"name": "a", "inners": []}, "needs a list with something in it in inners; found []"),
        ({"name": "a", "numbers": 1}, "needs a list in numbers; found 1"),
        ({"name": "a", "numbers": [True]}, "needs a whole number in numbers[0]; found True"),
        ({"name": "a", "kinds": [1]}, "needs a text in kinds[0]; found 1"),
        ({"name": "a", "place": 1}, "needs a text in place; found 1"),
        ({"name": "a", "colour": "green"}, "needs one of red, blue in colour; found 'green'"),
        ({"name": "a", "texts": {"b": 1}}, "needs an object of texts in texts; found {'b': 1}"),
        ({"name": "a", "options": {1: 1}}, "needs an object in options; found {1: 1}"),
        ({"name": "a", "sure": 1}, "needs true or false in sure; found 1"),
        ({"name": "a", "share": "1"}, "needs a number in share; found '1'"),
        ({"name": "a", "share": -0.1}, "needs a finite number >= 0 in share; found -0.1"),
        ({"name": "a", "share": float("inf")}, "needs a finite number >= 0 in share; found inf"),
        ({"name": "a", "share": 2**63}, f"needs a number in share; found {2**63}"),
        ({"name": "a", "share": float(2**63)}, f"needs a finite number >= 0 in share; found {float(2**63)}"),
        ({"name": "a", "below": -1.1}, "needs a finite number >= -1 in below; found -1.1"),
    ],
)
def test_what_is_malformed_is_refused_with_its_field(plain: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the whole sentence is compared
        from_plain(Outer, plain)
    assert str(refused.value) == sentence


def test_a_field_that_is_missing_is_named_and_not_one_that_has_a_default() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Late:
        first: int = 0
        second: tuple[int, ...] = field(default_factory=tuple)
        third: int
        fourth: int

    with pytest.raises(ValueError, match="^needs the field fourth; found none$"):
        from_plain(Late, {"third": 1})


def test_what_annotates_a_field_can_be_read_alone() -> None:
    assert (from_plain(int, 0), from_plain(tuple[int, ...], [])) == (0, ())
    with pytest.raises(ValueError, match="^needs a number; found 'a'$"):
        from_plain(float, "a")


def test_a_value_that_a_class_refuses_is_refused_with_its_field() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Asked:
        workload: Workload

    with pytest.raises(ValueError, match="^workload: a workload needs batch >= 1; found 0$"):
        from_plain(Asked, {"workload": {"prompt_tokens": 1, "output_tokens": 1, "batch": 0}})


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(TypeError, match=r"^complex has no plain form: 1j$"):
        to_plain({"a": 1j})


def a_job(variant: Variant) -> Job:
    return Job(
        model_dir=Path("/model"),
        variant=variant,
        artifact_dir=Path("/artifact"),
        dtype="bfloat16",
        vocab_size=64,
        device="cpu",
        threads=2,
        cpus=(0, 1),
        max_context_tokens=128,
        max_batch=4,
    )


@pytest.mark.parametrize("name", list(all_backends()))
def test_every_variant_reaches_its_worker_as_it_is(name: str) -> None:
    for variant in all_backends()[name].variants:
        opening = Opening(backend=name, job=a_job(variant), source="/a/backend.py")
        assert Opening.read(json.loads(json.dumps(opening.request()))) == opening

"""pytest.approx where a type checker expects the number itself, such as a field of a dataclass."""

from typing import Any

import pytest


def approx(value: float) -> Any:
    return pytest.approx(value)

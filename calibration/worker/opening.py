"""The request `open`, which a worker gets first: its backend, the model, and how the backend must load it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibration.backend import Job
from calibration.codec import from_plain, to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Which backend a worker runs, and its job."""

    backend: str
    job: Job
    source: str = ""
    """File of a backend that is not ours; the worker's interpreter need not have it installed."""

    def request(self) -> dict[str, Any]:
        """The fields of the request."""
        return dict(to_plain(self))

    @classmethod
    def read(cls, request: Mapping[str, Any]) -> "Opening":
        """Read the fields of a request.

        Raises:
            ValueError: a field is malformed.
        """
        return from_plain(cls, dict(request))

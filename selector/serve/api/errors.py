"""Errors as OpenAI's API tells them: an object with message, type, param and code, beside a status of HTTP."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from selector.serve.upstream import Failed, Refused, Unavailable

RETRY_AFTER_S: Final = 5.0
"""When a client may ask again if nobody knows better: a crashed engine of a small model is back by then."""


def error_response(error: Exception) -> Response:
    """The answer that tells an error."""
    headers = {}
    if isinstance(error, Unavailable):
        wait_s = RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    # What a client sent and is told may be no text: json escapes it.
    return Response(json.dumps(error_object(error)), status_of(error), headers, media_type="application/json")


def status_of(error: Exception) -> int:
    """The status of HTTP that tells an error."""
    match error:
        case Refused():
            return error.status
        case Unavailable():
            return 503
        case _:
            return 500


def error_object(error: Exception) -> Mapping[str, Any]:
    """The object that tells an error, in an answer of its own or within a stream.

    An error that nobody foresaw is told without its text: that is for the log.
    """
    match error:
        case Refused():
            return _error(error.message, "invalid_request_error", error.parameter, error.code)
        case Unavailable():
            return _error(error.message, "service_unavailable", None, error.code or "engine_unavailable")
        case Failed():
            return _error(error.message, "server_error", None, "engine_failed")
        case _:
            return _error("the server failed; its log says how", "server_error", None, "internal_error")


def _error(message: str, kind: str, parameter: str | None, code: str | None) -> Mapping[str, Any]:
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}

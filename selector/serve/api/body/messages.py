"""The messages of a chat, read and checked."""

from collections.abc import Mapping
from typing import Any, Final

from selector.serve.api.body.fields import Fields, refuse, text

_ROLES: Final = ("system", "developer", "user", "assistant")


def read_messages(plain: object) -> tuple[Mapping[str, Any], ...]:
    """Each message with `role` and `content`, which is a text.

    Raises:
        Refused: a message is not one, or asks for more than text.
    """
    if not isinstance(plain, list) or not plain:
        refuse("messages", "needs to be a list of messages")
    return tuple(_message(message, f"messages[{place}]") for place, message in enumerate(plain))


def _message(plain: object, where: str) -> Mapping[str, Any]:
    if not isinstance(plain, dict):
        refuse(where, "needs to be an object with `role` and `content`")
    fields = Fields(plain, within=where)
    role = fields.take("role")
    if role in ("tool", "function"):
        refuse(f"{where}.role", f"= {role!r} is not possible: this server has no tools", code="unsupported")
    if role not in _ROLES:
        refuse(f"{where}.role", f"needs to be one of {', '.join(_ROLES)}; found {role!r}"[:200])
    content = _content(fields.take("content"), f"{where}.content")
    told = {
        name: text(f"{where}.{name}", value)
        for name in ("name", "reasoning_content")
        if (value := fields.of_kind(name, str, "a text")) is not None
    }
    # What the openai client writes of an answer that is sent back: null, or empty.
    fields.end({"annotations": ([],), "audio": (), "function_call": (), "refusal": (), "tool_calls": ([],)})
    return {"role": role, "content": content, **told}


def _content(plain: object, where: str) -> str:
    if isinstance(plain, str):
        return text(where, plain)
    if not isinstance(plain, list) or not plain:
        refuse(where, "needs to be a text, or a list of parts of type text")
    return "\n".join(_part(part, f"{where}[{place}]") for place, part in enumerate(plain))


def _part(plain: object, where: str) -> str:
    if not isinstance(plain, dict):
        refuse(where, 'needs to be an object: {"type": "text", "text": ...}')
    fields = Fields(plain, within=where)
    kind = fields.take("type")
    if kind != "text":
        refuse(f"{where}.type", f"= {kind!r} is not possible: this server takes text only"[:200], code="unsupported")
    value = fields.of_kind("text", str, "a text")
    if value is None:
        refuse(f"{where}.text", "is missing")
    fields.end({})
    return text(f"{where}.text", value)

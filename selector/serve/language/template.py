"""The chat template of a checkpoint, rendered as transformers renders it, without transformers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from calibration.errors import ModelError
from selector.serve.upstream import Refused

_MEND: Final = "fetch the model again from where it was published"
_OURS: Final = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
"""Names that a template is given by us and not by `chat_template_kwargs`."""


class ChatTemplate:
    """How a model's chats are written as one text.

    Args:
        source: the template, in Jinja.
        names: what it is given beside the messages: bos_token, eos_token and their like.

    Raises:
        ModelError: it is not a template.
    """

    def __init__(self, source: str, names: Mapping[str, str]) -> None:
        self._names = names
        self._knows_developers = "developer" in source
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise ModelError(f"the chat template is not one: {error}", _MEND) from None

    def render(self, messages: Sequence[Mapping[str, Any]], names: Mapping[str, Any] | None = None) -> str:
        """The text up to where the answer begins.

        Args:
            names: given to the template as well (`chat_template_kwargs`).

        Raises:
            Refused: the template does not take these messages, or a name is one of ours.
        """
        if taken := _OURS & set(names or ()):
            raise Refused(
                f"`chat_template_kwargs` cannot have {', '.join(sorted(taken))}", parameter="chat_template_kwargs"
            )
        chat = [dict(message) for message in messages]
        if not self._knows_developers:
            # OpenAI's name of what other models know as the system's messages.
            chat = [{**one, "role": "system"} if one["role"] == "developer" else one for one in chat]
        given = {**self._names, **(names or {})}
        try:
            text = self._template.render(messages=chat, tools=None, documents=None, add_generation_prompt=True, **given)
            text.encode()  # what is not UTF-8 fails here: JSON can name halves of a character
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            reason = str(error) or type(error).__name__
            raise Refused(
                f"the model's chat template does not take these messages: {reason}", parameter="messages"
            ) from None
        return text


def read_template(folder: Path, tokenizer_config: Mapping[str, Any], names: Mapping[str, str]) -> ChatTemplate | None:
    """The template of a checkpoint: chat_template.jinja, or that of its tokenizer_config.json; None where it has none.

    Raises:
        ModelError: it cannot be read, or is not a template.
    """
    path = folder / "chat_template.jinja"
    try:
        return ChatTemplate(path.read_text(encoding="utf-8"), names)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}", "fetch it again from where the model was published"
        ) from None
    source = tokenizer_config.get("chat_template")
    if isinstance(source, list):  # several, each with a name
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
    return ChatTemplate(source, names) if isinstance(source, str) else None


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers.utils.chat_template_utils makes it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment


class _Dict:
    """What a template may do with `dict`; the type itself has more, and a template is code of somebody else."""

    def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
        return dict(*args, **named)

    def fromkeys(self, keys: Iterable[Any], value: object = None) -> dict[Any, Any]:
        """See dict.fromkeys."""
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """A namespace whose names do not begin with an underscore: those are Python's own."""

    def __init__(self, /, *args: Any, **named: Any) -> None:
        attributes = dict(*args, **named)
        for name in attributes:
            _refuse_private(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        Namespace.__setitem__(self, name, value)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot have {name!r}")


class _Generation(Extension):
    """`{% generation %}`: marks the model's own words for training; here it is what stands in it."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        inner = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_inner"), [], [], inner).set_lineno(line)

    def _inner(self, caller: Macro) -> str:
        return caller()


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes what HTML does not like."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)

"""Chat templates: rendered as transformers renders them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from calibration.errors import ModelError
from selector.serve.language.template import ChatTemplate, read_template
from selector.serve.upstream import Refused
from tests.selector.serve.language.tokenizers_of_tests import CHATML, byte_level

LLAMA_3 = (
    "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content']|trim %}\n"
    "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n"
    "{{- '<|system|>\\n' + system + '\\nToday: ' + strftime_now('%Y') + '\\n' }}\n"
    "{%- for message in messages %}\n{{- '<|' + message.role + '|>\\n\\n' + message['content'] | trim + eos_token }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n{{- '<|assistant|>\\n\\n' }}\n{%- endif %}\n"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
LOOPS = (
    "{% set seen = namespace(count=0, names=dict(a=1)) %}{{ dict.fromkeys(['k'], 2) }}{{ seen.names.a }}\n"
    "{% for message in messages %}\n"
    "    {% if message.role == 'system' %}\n        {% continue %}\n    {% endif %}\n"
    "    {% set seen.count = seen.count + 1 %}\n"
    "    {% if seen.count > 2 %}\n        {% break %}\n    {% endif %}\n"
    "  {{ seen.count }}: {{ message | tojson }} {{ {'b': 1, 'a': '<ü>'} | tojson(indent=2) }}\n"
    "{% endfor %}\n"
    "{% if tools is none and documents is not defined or documents is none %}no tools{% endif %}"
    "{% if pad_token is defined %}{{ pad_token }}{% endif %}{{ unheard_of }}\n"
    "{% generation %}{{ messages[-1].content }}{% endgeneration %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)
CHATS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "one": [{"role": "user", "content": "What is 2 < 3?"}],
    "several": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " Grüße, 世界 🙂 "},
        {"role": "user", "content": '<b>"and" so\non</b>'},
    ],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi"}],
}
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
MEND = "fetch the model again from where it was published"


@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False, "bos_token": "<other>"}], ids=["plain", "kwargs"])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("template", [CHATML, LLAMA_3, MISTRAL, LOOPS], ids=["chatml", "llama3", "mistral", "loops"])
def test_it_is_rendered_as_transformers_does(template: str, chat: str, kwargs: dict[str, Any]) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(), chat_template=template, **NAMES)
    messages = [dict(message) for message in CHATS[chat]]
    ours = ChatTemplate(template, NAMES)
    if template == MISTRAL and chat == "system":
        with pytest.raises(Refused, match="roles must alternate"):
            ours.render(messages, kwargs)
        return
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **kwargs)
    assert ours.render(messages, kwargs) == theirs
    assert theirs != ""


def test_the_date_is_this_machine_s() -> None:
    assert ChatTemplate("{{ strftime_now('%d %b %Y') }}", {}).render([]) == datetime.now().strftime("%d %b %Y")  # noqa: DTZ005


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only one message, please') }}", "only one message, please"),
        ("{{ messages[5].content.strip() }}", "list object has no element 5"),
        ("{{ messages[0].content + 5 }}", 'can only concatenate str (not "int") to str'),
        ("{{ messages.append(5) }}", "access to attribute 'append' of 'list' object is unsafe."),
        ("{% set private = namespace(_a=1) %}", "a namespace cannot have '_a'"),
        ("{% set space = namespace() %}{% set space.__a__ = 1 %}", "a namespace cannot have '__a__'"),
        ("{{ dict.__class__.__base__ }}", "access to attribute '__class__' of '_Dict' object is unsafe."),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
    ],
)
def test_what_a_template_does_not_take_is_refused(template: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        ChatTemplate(template, {}).render([{"role": "user", "content": "Hi"}])
    assert caught.value.message == f"the model's chat template does not take these messages: {reason}"
    assert (caught.value.status, caught.value.parameter) == (400, "messages")


def test_names_of_ours_cannot_be_given() -> None:
    with pytest.raises(Refused) as caught:
        ChatTemplate(CHATML, {}).render([], {"messages": [], "tools": [], "mine": 1})
    assert caught.value.message == "`chat_template_kwargs` cannot have messages, tools"


def test_half_a_character_is_refused() -> None:
    with pytest.raises(Refused, match="surrogates not allowed"):
        ChatTemplate("{{ mine }}", {}).render([], {"mine": "\ud800"})


def test_a_developer_is_the_system_where_the_template_knows_no_developers() -> None:
    messages = [{"role": "developer", "content": "Be brief."}]
    assert ChatTemplate("{{ messages[0].role }}", {}).render(messages) == "system"
    knowing = "{% if messages[0].role == 'developer' %}{{ messages[0].role }}{% endif %}"
    assert ChatTemplate(knowing, {}).render(messages) == "developer"


def test_where_a_template_stands(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "several"}]

    def read(config: dict[str, Any]) -> str | None:
        template = read_template(tmp_path, config, {})
        return template.render([]) if template else None

    assert read({}) is None
    assert read({"chat_template": "in the config"}) == "in the config"
    assert read({"chat_template": several}) == "several"
    assert read({"chat_template": several[:1]}) is None
    (tmp_path / "chat_template.jinja").write_text("in a file: ü")
    assert read({"chat_template": "in the config"}) == "in a file: ü"


def test_what_is_no_template_is_said_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_template(tmp_path, {"chat_template": "{% if %}"}, {})
    assert (
        str(caught.value)
        == f"the chat template is not one: Expected an expression, got 'end of statement block'\n{MEND}"
    )
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match="chat_template.jinja cannot be read: 'utf-8' codec"):
        read_template(tmp_path, {}, {})

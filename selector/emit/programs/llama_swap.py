"""llama-swap: the entry of a model in its config.yaml.

The fields stand in https://github.com/mostlygeek/llama-swap, config-schema.json. `cmd` may start any server with
OpenAI's API; ${PORT} is where llama-swap asks it, and /health where it looks whether it is ready. Of more than ten
requests at once the rest gets 429, unless `concurrencyLimit` allows more.
"""

import shlex
from typing import Any

from selector.answer import Selection
from selector.emit.origin import origin, served_name
from selector.emit.serve_words import serve_words, whole_path
from selector.emit.target import Emitted, Target
from selector.emit.yaml_text import yaml_text

_PORT = "${PORT}"
_DEFAULT_LIMIT = 10
"""concurrencyLimit where none is given."""


def _write(selection: Selection) -> Emitted:
    words = serve_words(selection, model=str(whole_path(selection) or selection.model), port=_PORT)
    entry: dict[str, Any] = {
        "cmd": " ".join(word if word == _PORT else shlex.quote(word) for word in words),
        "name": f"{served_name(selection)} ({selection.candidate.label})",
    }
    if selection.slots > _DEFAULT_LIMIT:
        entry["concurrencyLimit"] = selection.slots
    return Emitted(
        text=origin(selection, TARGET.name) + yaml_text({"models": {served_name(selection): entry}}),
        notes=("where the model must be converted, its first start takes longer: raise healthCheckTimeout (120 s)",),
    )


TARGET = Target(name="llama-swap", program="llama-swap", what="a model's entry in its config.yaml", write=_write)

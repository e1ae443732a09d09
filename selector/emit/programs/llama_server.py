"""llama-server of llama.cpp: the words of its command line.

The options stand in https://github.com/ggml-org/llama.cpp, tools/server/README.md. --ctx-size is the sum over all slots
(--parallel).
"""

import shlex

from selector.answer import Selection
from selector.emit.target import Emitted, Target


def _write(selection: Selection) -> Emitted:
    return Emitted(
        text=shlex.join(selection.llama_server_flags()) + "\n",
        notes=("start it: llama-server WORDS; xllamacpp brings no such program, `autobackend serve` needs none",),
    )


TARGET = Target(name="llama-server", program="llama-server", what="its arguments", backends=("llamacpp",), write=_write)

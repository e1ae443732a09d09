"""Ollama: a Modelfile for `ollama create NAME -f Modelfile`.

Its instructions and parameters stand in https://github.com/ollama/ollama, docs/modelfile.mdx. A value ends with its
line (parser/parser.go), so a path may have blanks.
"""

from selector.answer import Selection
from selector.emit.origin import origin, served_name
from selector.emit.target import Emitted, Target


def _write(selection: Selection) -> Emitted:
    flags = selection.llama_server_flags()
    file = flags[flags.index("--model") + 1]
    workload = selection.demand.largest
    text = f"{origin(selection, TARGET.name)}FROM {file}\nPARAMETER num_ctx {workload.context_tokens}\n"
    notes = [f"create it: ollama create {served_name(selection).lower()} -f Modelfile"]
    if workload.batch > 1:
        notes.append(f"Ollama takes its slots from its environment: OLLAMA_NUM_PARALLEL={workload.batch}")
    if selection.variant == "f32":
        notes.append("llamacpp:f32 was measured with a KV cache of 32 bits; Ollama's has 16")
    return Emitted(text=text, notes=tuple(notes))


TARGET = Target(name="ollama", program="Ollama", what="a Modelfile", backends=("llamacpp",), write=_write)

"""llama-server as a program, for xllamacpp brings none: `python own_server.py FILE --port 8080 ...`.

The backend's interpreter runs it as a script: it needs the standard library and xllamacpp.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEY_VARIABLE = "LLAMA_API_KEY"
"""The key that it answers to, under the name that llama.cpp's own program has for it: other users of the machine can
read a command line, and no environment."""

_SLOT_STEP = 256
"""llama.cpp makes each slot's context a multiple of it."""
_LOOK_S = 0.5
"""How often it looks whether the process that started it is still there."""


def main(argv: Sequence[str]) -> None:
    """Serve until SIGTERM or Ctrl-C, or until the process that started this one is gone."""
    # Otherwise the modules beside this one would be found before installed packages of the same names.
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]
    starter = os.getppid()
    import xllamacpp

    asked = _asked(argv)
    params = settings(asked.file, slots=asked.slots, context_tokens=asked.context, float32=asked.float32)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    params.hostnames, params.port = [asked.host], asked.port
    params.model_alias = {asked.name}
    if key := os.environ.pop(KEY_VARIABLE, ""):
        params.api_keys = [key]
    params.cache_prompt = False
    params.ui = False
    # Warnings and errors: it writes ten lines a request otherwise.
    params.verbosity = 2
    server = xllamacpp.Server(params)
    # Only now: it takes over the signals once it has loaded the model. Before that they end the process as ever.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sys.stdout.write(f"llama-server listens on {server.listening_address}\n")
    sys.stdout.flush()
    while not stop.wait(_LOOK_S) and os.getppid() == starter:
        pass
    # Its own end waits 30 s for streams that it has cut already (llama.cpp's server-http.cpp).
    os._exit(0)


def settings(file: str, *, slots: int, context_tokens: int, float32: bool) -> Any:
    """An xllamacpp.CommonParams for `slots` sequences of `context_tokens`, with nothing kept from one to the next.

    Args:
        float32: keep the KV cache in float32, and attend in it.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = file
    slot = slot_tokens(context_tokens)
    params.n_parallel = slots
    params.n_ctx = slot * slots
    # Prompts that come together are computed together, and their first tokens are there at once.
    params.n_batch = max(params.n_batch, slot * slots)
    params.fit_params = False
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.n_ctx_checkpoints = 0
    if float32:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return params


def slot_tokens(context_tokens: int) -> int:
    """What a slot holds; one that is full ends its sequence, so there is one token more."""
    return -(-(context_tokens + 1) // _SLOT_STEP) * _SLOT_STEP


def _asked(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llama-server", description=__doc__)
    parser.add_argument("file", help=".gguf file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--name", default="model", help="name of the model")
    parser.add_argument("--slots", type=int, default=1, help="sequences at once")
    parser.add_argument("--context", type=int, default=2048, help="longest sequence of each slot, in tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="KV cache and attention in float32")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(sys.argv[1:])

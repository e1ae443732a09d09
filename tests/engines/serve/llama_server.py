"""llama-server as its users start it: `python llama_server.py WORDS`, read by llama.cpp's own parser, then served.

xllamacpp brings no such program, but its library exports llama.cpp's parser of the command line, which fills the very
struct that a CommonParams holds. Prints a line of JSON: what the words set, and how many tokens the server answered.
"""

import ctypes
import http.client
import json
import os
import sys
from pathlib import Path
from typing import Any

import xllamacpp

PARSE = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
"""`bool common_params_parse(int, char **, common_params &, llama_example, void (*)(int, char **))`, common/arg.h."""
HEADER_BYTES = object.__basicsize__
"""Of a Python object; the struct follows it."""
SERVER_ONLY = ["--api-key", "key"]
"""An option of llama-server alone tells its number in the enum llama_example."""


def parsed(words: list[str], program: int) -> Any | None:
    """The parameters that llama.cpp's parser makes of the words for a program; None: it refuses them, and says why."""
    [library] = Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    parse = getattr(ctypes.CDLL(str(library)), PARSE)
    parse.restype = ctypes.c_bool
    parse.argtypes = [
        ctypes.c_int, ctypes.POINTER(ctypes.c_char_p), ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    ]  # fmt: skip
    params = xllamacpp.CommonParams()
    argv = (ctypes.c_char_p * (len(words) + 2))(b"llama-server", *(word.encode() for word in words), None)
    return params if parse(len(words) + 1, argv, id(params) + HEADER_BYTES, program, None) else None


def told(params: Any) -> dict[str, Any]:
    """What the words are about."""
    return {
        "model": params.model.path,
        "parallel": params.n_parallel,
        "ctx-size": params.n_ctx,
        "batch-size": params.n_batch,
        "fit": params.fit_params,
        "threads": [params.cpuparams.n_threads, params.cpuparams_batch.n_threads],
        "flash-attn": int(params.flash_attn_type),
        "cache-type": [int(params.cache_type_k), int(params.cache_type_v)],
    }


def main(words: list[str]) -> None:
    program = next(number for number in range(100) if parsed(SERVER_ONLY, number) is not None)
    params = parsed(words, program)
    if params is None:
        sys.exit("llama-server refuses its words")
    set_by_words = told(params)
    params.port = 0
    server = xllamacpp.Server(params)
    connection = http.client.HTTPConnection(server.listening_address.removeprefix("http://"))
    connection.request("POST", "/completion", json.dumps({"prompt": [5, 6, 7], "n_predict": 4, "ignore_eos": True}))
    answer = json.loads(connection.getresponse().read())
    print("ANSWER", json.dumps({"words": set_by_words, "tokens": answer["tokens_predicted"]}), flush=True)
    os._exit(0)  # its own end waits for threads


if __name__ == "__main__":
    main(sys.argv[1:])

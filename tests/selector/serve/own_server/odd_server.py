"""A server of the standard library that answers as an engine's own does, or as none should: `odd_server.py PORT HABIT`.

Its habit says how it starts; the prompt of a request says how that is answered.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = os.environ["ODD_KEY"]
HABIT = sys.argv[2]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if HABIT == "deaf":
            time.sleep(3600)
        self.whole(503 if HABIT == "never-ready" else 200, {"status": "?"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.whole(401, {"error": "Unauthorized"})
            return
        if self.path == "/count":
            self.do_count(body)
            return
        name = body["prompt"] if isinstance(body.get("prompt"), str) else "well"
        getattr(self, f"do_{name.replace(' ', '_')}")(body)

    def do_count(self, body: Any) -> None:
        """A token for each character; `malformed` has none, and to `refuses` it says no."""
        match body:
            case {"prompt": "refuses"}:
                self.do_refuses(body)
            case {"prompt": "malformed"}:
                self.whole(200, {"tokens": 3})
            case {"prompt": "dies"}:
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                self.whole(200, {"count": len(body["prompt"])})

    def do_tells_its_limit(self, body: Any) -> None:
        self.begin()
        self.tell(text=str(body["max_tokens"]))
        self.do_last()

    def do_well(self, body: Any) -> None:
        self.begin()
        sys.stdout.write(f"connection: {self.headers['Connection']}\n")
        self.chunk(b": a comment\n\n")
        self.tell(text="one ")
        self.tell(text="")
        self.tell(text="two", finish="length")
        self.event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
        self.end()

    def do_all_in_the_last(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        self.tell(text=" two", finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 4})
        self.end()

    def do_split(self, body: Any) -> None:
        """An event, and a character, in pieces of a byte."""
        self.begin()
        for byte in f"data: {json.dumps(choice(text='né 🙂'), ensure_ascii=False)}\n\n".encode():
            self.chunk(bytes([byte]))
        self.do_last()

    def do_dies(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        os.kill(os.getpid(), signal.SIGKILL)

    def do_hangs_up(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        self.close_connection = True

    def do_ends_early(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        self.end()

    def do_aborts(self, body: Any) -> None:
        self.begin()
        self.tell(text="one", finish="abort", usage={"prompt_tokens": 3, "completion_tokens": 1})
        self.end()

    def do_malformed(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        self.chunk(b'data: {"choices": [\n\n')
        self.end()

    def do_of_another_kind(self, body: Any) -> None:
        self.begin()
        self.event({"object": "what?"})
        self.end()

    def do_no_stream(self, body: Any) -> None:
        self.whole(200, {"choices": []})

    def do_breaks(self, body: Any) -> None:
        self.whole(500, {"error": {"message": "the kernel says no", "code": 500}})

    def do_breaks_without_json(self, body: Any) -> None:
        self.send_error(500, "Internal Server Error", "nothing more is known")

    def do_is_busy(self, body: Any) -> None:
        self.whole(503, {"error": {"message": "loading model", "code": 503}})

    def do_refuses(self, body: Any) -> None:
        self.whole(
            400,
            {
                "error": {
                    "message": "request (300 tokens) exceeds the context (256 tokens)",
                    "code": 400,
                    "type": "exceed_context_size_error",
                }
            },
        )

    def do_refuses_barely(self, body: Any) -> None:
        self.whole(422, {"message": "temperature must be a number", "code": 422, "object": "error"})

    def do_refuses_late(self, body: Any) -> None:
        self.begin()
        self.event({"error": {"message": "too long", "code": 400}})
        self.end()

    def do_fails_late(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        self.event({"error": {"message": "out of memory", "code": 500}})
        self.end()

    def do_lasts(self, body: Any) -> None:
        """A token every 20 ms until the client leaves, 500 at most."""
        self.begin()
        try:
            for number in range(int(body["max_tokens"] or 500)):
                self.tell(text=f"{number} ")
                time.sleep(0.02)
        except OSError:
            sys.stdout.write("the client left\n")
            self.close_connection = True
            return
        self.do_last()

    def do_grows(self, body: Any) -> None:
        self.begin()
        self.tell(text="one")
        held = bytearray(os.urandom(1 << 20) * 400)
        time.sleep(60)
        del held

    def do_last(self) -> None:
        self.tell(text="", finish="stop", usage={"prompt_tokens": 1, "completion_tokens": 1})
        self.end()

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def tell(self, *, text: str, finish: str | None = None, usage: Mapping[str, int] | None = None) -> None:
        self.event({**choice(text=text, finish=finish), **({"usage": usage} if usage else {})})

    def event(self, content: Mapping[str, Any]) -> None:
        self.chunk(f"data: {json.dumps(content)}\n\n".encode())

    def chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def end(self) -> None:
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")
        self.close_connection = True

    def whole(self, status: int, content: Mapping[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        pass


def choice(*, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}


def main() -> None:
    print(f"{HABIT}, bound to {sorted(os.sched_getaffinity(0))}, {os.environ['OMP_NUM_THREADS']} threads")
    if HABIT == "dies":
        print("there is no such model")
        sys.exit(3)
    if HABIT == "parent":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        print(f"child {child.pid}")
    if HABIT == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()


if __name__ == "__main__":
    main()

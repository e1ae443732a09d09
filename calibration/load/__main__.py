"""Measures loads against a server that runs: `python -m calibration.load URL --load pp64:tg32:c4`.

Prints a table, or JSON. The exit code is 1 where a load could not be measured.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from calibration.codec import to_plain
from calibration.errors import AutobackendError, UsageError
from calibration.load.load import Load
from calibration.load.report import table, to_json
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import NoPoint, Point, RequestTargets
from calibration.load.trace import Trace, read_trace
from calibration.load.watch import listener
from calibration.whole_file import write_whole

KEY_VARIABLE = "AUTOBACKEND_API_KEY"
"""As `autobackend serve` reads it: of several keys the first."""
ASK_S = 30.0
FIELDS = '{"ignore_eos": true, "return_token_ids": true}'


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each load once, one after another."""
    arguments = _parser().parse_args(argv)
    try:
        targets = RequestTargets(
            ttft_s=arguments.ttft, tpot_s=arguments.tpot, e2e_s=arguments.e2e, share=arguments.attainment
        )
        loads: list[tuple[Load, Trace | None]] = [(Load.parse(label), None) for label in arguments.load]
        traces = [read_trace(file) for file in arguments.trace]
        loads += [(trace.load, trace) for trace in traces]
        if not loads:
            raise UsageError("nothing to measure", "name a load (--load pp64:tg32:c4) or a trace (--trace FILE)")
        served = _served(arguments)
        points: list[Point | NoPoint] = []
        for load, trace in loads:
            print(f"{load.title} ...", file=sys.stderr, flush=True)
            measuring = Measuring(
                budget_s=arguments.budget,
                requests=arguments.requests,
                targets=targets or None,
                seed=arguments.seed,
            )
            points.append(run_load(served, load, measuring, trace=trace))
        if arguments.samples:
            write_whole(arguments.samples, json.dumps([to_plain(point) for point in points]) + "\n")
    except AutobackendError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{arguments.samples} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([to_json(point, targets or None) for point in points], indent=2))
    else:
        print("\n".join(table(points, targets or None)))
    return int(any(isinstance(point, NoPoint) for point in points))


def _served(arguments: argparse.Namespace) -> LoadedServer:
    at = urlsplit(arguments.url)
    pids = tuple(arguments.pid)
    if not pids and at.hostname in ("127.0.0.1", "localhost", "::1"):
        found = listener(at.port or 80)
        pids = (found,) if found else ()
    return LoadedServer(
        url=arguments.url.rstrip("/"),
        key=arguments.key,
        model=arguments.model or _first_model(arguments.url.rstrip("/"), arguments.key),
        vocab_size=arguments.vocab,
        slots=arguments.slots,
        pids=pids,
        fields=json.loads(arguments.fields),
    )


def _known_key() -> str:
    return next(iter(os.environ.get(KEY_VARIABLE, "").split()), "")


def _first_model(url: str, key: str) -> str:
    """The first name that the server has.

    Raises:
        UsageError: it tells none.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        request = urllib.request.Request(f"{url}/v1/models", headers=headers)  # noqa: S310  the user names it
        with urllib.request.urlopen(request, timeout=ASK_S) as answer:  # noqa: S310
            return str(json.load(answer)["data"][0]["id"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UsageError(f"{url}/v1/models tells no model: {reason}", "name it with --model") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m calibration.load", description=__doc__)
    parser.add_argument("url", metavar="URL", help="of an OpenAI-compatible server, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--load", action="append", default=[], help="such as pp512:tg128:c8, pp200-800:tg64:r0.5, serve"
    )
    parser.add_argument("--trace", action="append", default=[], type=Path, metavar="FILE", help="requests that came")
    parser.add_argument("--model", default="", help="name under which it is served; else the first of /v1/models")
    parser.add_argument("--key", default=_known_key(), help=f"API key; else the first in ${KEY_VARIABLE}")
    parser.add_argument("--vocab", type=int, default=1000, metavar="N", help="prompts are token ids below N (1000)")
    parser.add_argument(
        "--fields", default=FIELDS, metavar="JSON", help=f"of each request's body, beside others ({FIELDS})"
    )
    parser.add_argument("--requests", type=int, default=0, metavar="N", help="that count, at most (100 or more)")
    parser.add_argument("--budget", type=float, default=120.0, metavar="SECONDS", help="of each load (120)")
    parser.add_argument("--seed", type=int, default=0, help="of lengths and arrivals (0)")
    parser.add_argument("--slots", type=int, default=0, metavar="N", help="requests that the server works on at once")
    parser.add_argument("--pid", type=int, action="append", default=[], help="of the server, else who listens there")
    parser.add_argument("--ttft", type=float, metavar="SECONDS", help="longest time to the first token")
    parser.add_argument("--tpot", type=float, metavar="SECONDS", help="longest time per output token")
    parser.add_argument("--e2e", type=float, metavar="SECONDS", help="longest time to the last token")
    parser.add_argument(
        "--attainment", type=float, default=0.95, metavar="SHARE", help="of requests to keep them (0.95)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="write the points with all raw samples")
    return parser


if __name__ == "__main__":
    sys.exit(main())

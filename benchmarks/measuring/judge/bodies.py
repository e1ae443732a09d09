"""The requests of a load as bodies, in the forms in which other load generators replay them."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from calibration.load.client.draws import plan, prompt_ids
from calibration.load.client.load_spec import LoadSpec, body


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One request, as our client sends it with the same spec."""

    due_s: float | None
    output_tokens: int
    fields: dict[str, Any]


def bodies(spec: LoadSpec) -> list[Body]:
    """The first `spec.requests` requests of a load."""
    return [
        Body(
            due_s=planned.due_s,
            output_tokens=planned.output_tokens,
            fields=body(
                spec,
                prompt_ids(spec.prompt_seed, planned.number, planned.prompt_tokens, spec.vocab_size),
                planned.output_tokens,
            ),
        )
        for planned in islice(plan(spec.load, spec.seed, spec.arrivals), spec.requests)
    ]


def write_payloads(requests: list[Body], file: Path) -> None:
    """AIPerf's form of Mooncake's traces: the millisecond at which a body is due, and the body, which is sent as it is.

    Its `raw_payload` would need `messages` in each body, which a strict server of completions refuses.
    """
    lines = ({"timestamp": (request.due_s or 0.0) * 1e3, "payload": request.fields} for request in requests)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_samples(requests: list[Body], spec: LoadSpec, file: Path) -> None:
    """What vllm_bench.py reads."""
    file.write_text(
        json.dumps(
            {
                "url": spec.url,
                "model": spec.model,
                "streams": spec.load.streams,
                "requests": [
                    {"due_s": r.due_s, "output_tokens": r.output_tokens, "fields": r.fields} for r in requests
                ],
            }
        )
    )

"""`vllm bench serve` in vLLM's own environment, on the same requests."""

import json
import os
import subprocess
from pathlib import Path
from statistics import median

from benchmarks.measuring.judge.bodies import bodies, write_samples
from benchmarks.measuring.judge.seen import Seen
from calibration.errors import AutobackendError
from calibration.load.client.load_spec import LoadSpec

SCRIPT = Path(__file__).with_name("vllm_bench.py")
RUN_S = 1800.0


def run_vllm(python: Path, spec: LoadSpec, folder: Path) -> Seen:
    """Send the requests of a load; see vllm_bench.py.

    Raises:
        AutobackendError: it failed; its last words.
    """
    requests = bodies(spec)
    folder.mkdir(parents=True, exist_ok=True)
    asked, told = folder / "requests.json", folder / "seen.json"
    write_samples(requests, spec, asked)
    run = subprocess.run(
        [str(python), "-P", str(SCRIPT), str(asked), str(told)],  # -P: our vllm.py is not theirs
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        env={**os.environ, "OPENAI_API_KEY": spec.key, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
    )
    (folder / "vllm.log").write_text(run.stdout + run.stderr)
    if run.returncode:
        raise AutobackendError(f"vllm bench failed with exit code {run.returncode}", f"see {folder / 'vllm.log'}")
    seen = json.loads(told.read_text())
    answered = [
        (begun, ttft, latency, request.output_tokens)
        for begun, ttft, latency, error, request in zip(
            seen["start_times"], seen["ttfts"], seen["latencies"], seen["errors"], requests, strict=True
        )
        if not error
    ]
    if not answered:
        raise AutobackendError(f"vllm bench had no answer: {seen['errors'][0]}", f"see {folder / 'vllm.log'}")
    # Its own throughput counts until its last coroutine has ended, and a token a request where a server tells no usage
    # apart. Lengths are forced, so the tokens are known.
    span_s = max(begun + latency for begun, _, latency, _ in answered) - min(seen["start_times"])
    return Seen(
        tool=f"vllm bench {seen['version']}",
        requests=len(requests),
        failed=len(requests) - len(answered),
        output_tps=sum(tokens for *_, tokens in answered) / span_s,
        ttft_p50_s=median(ttft for _, ttft, _, _ in answered),
        tpot_p50_s=median((latency - ttft) / (tokens - 1) for _, ttft, latency, tokens in answered if tokens > 1),
    )

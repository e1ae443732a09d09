"""autobackend.pipeline where LMDeploy is not installed; tests/lmdeploy/test_pipeline.py has the rest."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import autobackend
from autobackend import BackendError
from tests.selector.answering import HOST

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lmdeploy") is not None, reason="LMDeploy is installed here")


def test_without_lmdeploy_it_says_how_to_install_it() -> None:
    with pytest.raises(BackendError) as error:
        autobackend.pipeline("owner/model", host=HOST)
    assert str(error.value) == (
        f"lmdeploy is not installed in this interpreter ({sys.executable})\n"
        'install it here: pip install "lmdeploy>=0.18,<0.19"'
    )


def test_where_another_interpreter_has_it_that_is_named() -> None:
    there = replace(HOST.installations["pytorch"], python=Path("/lmdeploy/bin/python"), versions={"lmdeploy": "0.18.0"})
    host = replace(HOST, installations={**HOST.installations, "pytorch": there})
    with pytest.raises(BackendError) as error:
        autobackend.pipeline("owner/model", host=host)
    assert error.value.mend == "run your program with /lmdeploy/bin/python"

"""Which backends a node lacks."""

from dataclasses import replace

from selector.fleet.lacking import lacking
from tests.selector.launches import VERSIONS, cpu_host


def test_what_is_not_installed_is_lacking_and_what_never_runs_there_has_a_reason() -> None:
    host = cpu_host()
    told = lacking(host)
    assert "transformers" not in told
    assert told["llamacpp"] == ""
    assert "needs an NVIDIA GPU; this host has none" in told["turbomind"]
    without = {name: version for name, version in VERSIONS.items() if name != "transformers"}
    installation = replace(host.installations["transformers"], versions=without)
    bare = replace(host, installations={**host.installations, "transformers": installation})
    assert lacking(bare) == {**told, "transformers": ""}

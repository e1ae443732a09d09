"""Commands of autobackend on a node."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

from selector.fleet.command import Commands, Ended
from selector.host.spec import TOLD_CORES


def test_a_command_is_bound_and_the_program_that_runs_it_is_not() -> None:
    cores = sorted(os.sched_getaffinity(0))

    def run(cpus: list[int], **variables: str) -> int:
        ended = Commands().run(["host", "--json"], variables=variables, cpus=cpus)
        assert ended.code == 0
        return int(json.loads("\n".join(ended.lines))["cores"])

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(run, cores[:1]).result() == 1
        assert threads.submit(run, cores[:1], **{TOLD_CORES: "96"}).result() == 96
    assert run([]) == len(cores) == len(os.sched_getaffinity(0))


def test_the_reason_of_an_end_is_its_last_error() -> None:
    commands = Commands()
    ended = commands.run(["select"])
    assert ended.code == 2
    assert commands.now == ""
    assert Ended(code=3, lines=("a line", "error: no model", "a mend")).reason == "no model"
    assert Ended(code=3, lines=()).reason == "it ended with the code 3 and printed nothing"
    several = ("error: 2 of 3 failed", "  a: no space", "  b: no network", "free space")
    assert Ended(code=12, lines=several).details == "a: no space; b: no network"
    assert Ended(code=3, lines=("error: no model", "a mend")).details == "no model"
    assert Ended(code=3, lines=("killed",)).details == "killed"

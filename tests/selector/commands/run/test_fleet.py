"""`autobackend fleet`: what is refused before anything is begun, and what it shows."""

import io
import json
import platform
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from calibration.errors import ClusterDiffers, ClusterUnreachable, FleetIncomplete, NothingMeasured, UsageError
from selector.cli import main
from selector.fleet.board import Board
from selector.fleet.cluster import ClusterNode, Handle, joined
from selector.fleet.install import Installed
from selector.fleet.progress import Doing, FleetResult, Now
from selector.fleet.survey import Member, Survey
from selector.fleet.tasks import Calibrate, SpotCheck, Task
from selector.screens.fleet import EVERY_S, FleetProgress, hosts_screen, installed_screen, result_screen
from tests.selector.fleet.test_board import H100, run
from tests.selector.launches import cpu_host


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="a fleet needs Ray") as refused, joined("auto"):
        pass
    assert refused.value.mend == "pip install 'autobackend[fleet]'"


def test_where_nobody_answers_it_says_so_at_once() -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(ClusterUnreachable, match="nobody answers at 127.0.0.1:1: Connection refused"),
        joined("127.0.0.1:1"),
    ):
        pass


def test_a_cluster_of_another_version_of_ray_is_named_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray._private.utils")
    here = f"Ray {ray.__version__} with Python {platform.python_version()}"

    def told(there: tuple[str, str]) -> ClusterDiffers:
        cluster = {"ray_version": there[0], "python_version": there[1]}

        def init(**_: object) -> None:
            utils.check_version_info(cluster, "node 10.0.0.2:6379")  # Ray's own words, of a cluster that is not there

        monkeypatch.setattr(ray, "init", init)
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            pytest.raises(ClusterDiffers) as refused,
            joined(f"127.0.0.1:{server.getsockname()[1]}"),
        ):
            pass
        return refused.value

    other = told(("2.9.0", platform.python_version()))
    assert f"is of Ray 2.9.0 with Python {platform.python_version()}; here is {here}" in other.message
    assert other.mend == "install the same here: pip install 'ray==2.9.0'"
    older = told((ray.__version__, "3.9.1"))
    assert f"is of Ray {ray.__version__} with Python 3.9.1; here is {here}" in older.message
    assert older.mend == "run it with Python 3.9.1, as on the nodes"


def test_a_cluster_that_wants_a_token_is_not_joined_without(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def init(**_: object) -> None:
        raise ray.exceptions.AuthenticationError("a token is needed")  # a cluster here would take half a minute

    monkeypatch.setattr(ray, "init", init)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ClusterUnreachable, match="cannot be joined: a token is needed"),
        joined(f"127.0.0.1:{server.getsockname()[1]}"),
    ):
        pass


@pytest.mark.parametrize("address", ["head", "head:port", ""])
def test_an_address_needs_a_host_and_a_port(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="needs an address like head:6379"), joined(address):
        pass


def test_a_fleet_needs_a_cache_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOBACKEND_CACHE", raising=False)
    ended = CliRunner().invoke(main, ["fleet", "calibrate", "shape:gpt2"])
    assert ended.exit_code == UsageError.exit_code
    assert "a cache that all nodes reach" in ended.output


def test_how_many_models_are_compared_is_a_number_or_all(tmp_path: Path) -> None:
    words = ["fleet", "calibrate", "shape:gpt2", "--cache", str(tmp_path / "cache.db"), "--verify"]
    ended = CliRunner().invoke(main, [*words, "0"])
    assert ended.exit_code == 2
    assert "needs a number of models or all; found '0'" in ended.output


def test_each_host_is_shown_beside_its_group() -> None:
    board = Board({H100: ["a", "b", "c", "d"]}, ["m", "n"])
    assert list(run(board, {"d": 1.3}))
    result = FleetResult(standings=tuple(board.standings()), given_up={}, unusable={"e": "no autobackend"}, seconds=90)
    lines = result_screen(result)
    assert lines[0].split() == ["host", "calibrated", "compared", "on", "beside", "its", "group"]
    assert "alike: the group's results hold" in lines[1]
    assert "1.300 of" in lines[4]
    assert "not like the others: its own" in lines[4]
    assert lines[5:] == ["no part: e, no autobackend", "", "took 90.0 s"]
    assert result.to_json()["hosts"][3]["inherits"] is False


def test_a_model_without_an_answer_is_shown_with_its_reason() -> None:
    board = Board({H100: ["a"]}, ["m"])
    [task] = board.begin()
    board.failed(task, "nothing could be measured")
    result = FleetResult(standings=tuple(board.standings()), given_up=board.given_up(), unusable={}, seconds=1)
    assert "no answer for m on NVIDIA H100, 80 GiB, 700 W, driver 570: nothing could be measured" in result_screen(
        result
    )
    assert not result.complete
    with pytest.raises(NothingMeasured, match="no host has an answer for any model"):
        result.require_answers()


def test_a_fleet_in_which_a_model_has_no_answer_ends_with_an_error() -> None:
    board = Board({H100: ["a"]}, ["m", "n"])
    [task] = board.begin()
    board.failed(task, "nothing could be measured")
    assert [other.model for other in run(board) if isinstance(other, Calibrate)] == ["n"]
    result = FleetResult(standings=tuple(board.standings()), given_up=board.given_up(), unusable={}, seconds=1)
    with pytest.raises(FleetIncomplete) as refused:
        result.require_answers()
    assert refused.value.exit_code == 23
    assert refused.value.message == "not every host has an answer for every model; without one: m"


def test_a_host_alone_has_its_own_results() -> None:
    board = Board({H100: ["a"]}, ["m"])
    assert [task for task in run(board) if isinstance(task, Calibrate)] == [Calibrate(host="a", model="m")]
    result = FleetResult(standings=tuple(board.standings()), given_up={}, unusable={}, seconds=1)
    assert result_screen(result)[1].split()[-2:] == ["its", "own"]
    assert result.complete
    result.require_answers()


def test_what_was_installed_is_said_for_each_node() -> None:
    came = [
        Installed(node="a", lacked=()),
        Installed(node="b", lacked=("openvino",)),
        Installed(node="c", lacked=("openvino",), error="no space"),
    ]
    assert installed_screen(came) == [
        "a: has them already",
        "b: installed openvino",
        "c: openvino could not be installed: no space",
    ]


class Clock:
    """Stands until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


CHECK = SpotCheck(host="b", model="m", labels=("x:a", "x:b"), of="a")


def doing(now: str, task: Task = CHECK) -> Now:
    return Now(doing=(Doing(node="b", task=task, now=now, since_s=7.0),), calibrations_left=2, checks_left=3)


def test_json_lines_tell_what_nodes_do_and_how_long_still() -> None:
    clock, lines = Clock(), list[str]()
    progress = FleetProgress(Console(file=io.StringIO()), as_json=True, write=lines.append, clock=clock)
    progress.now(doing("the whole model  x:a  loading  about 2:10 min left"))
    clock.now_s += EVERY_S - 1
    progress.now(doing("the whole model  x:a  loading  about 2:10 min left"))
    clock.now_s += 1
    progress.now(doing("x:a, round 1: loaded in 2 s"))
    clock.now_s += EVERY_S
    progress.now(doing("", Calibrate(host="b", model="n")))
    told = [json.loads(line) for line in lines]
    assert [line["doing"][0].pop("left_s") for line in told] == [130.0, 120.0, None]
    assert told[0] == {
        "doing": [
            {
                "host": "b", "model": "m", "task": "spot check", "since_s": 7.0,
                "now": "the whole model  x:a  loading  about 2:10 min left",
            }
        ],
        "calibrations_left": 2,
        "checks_left": 3,
    }  # fmt: skip


def test_a_terminal_shows_a_row_for_each_node() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=20, color_system=None)
    with FleetProgress(console, as_json=False, write=print, clock=Clock()) as progress:
        progress.now(doing("x:a  loading  about 24 s left"))
        shown = screen.getvalue()
    assert "node  model  task        since   left        now" in shown
    assert "b     m      spot check  7.00 s  about 24 s  x:a  loading  about 24 s left" in shown
    assert "2 calibrations and 3 spot checks left" in shown


def test_each_host_is_shown_with_the_backends_that_it_lacks() -> None:
    def member(letter: str, lacks: dict[str, str]) -> Member:
        node = ClusterNode(node_id=letter, name=f"node-{letter}", cpus=2, gpus=0)
        return Member(node=node, agent=Handle(None, node, None, ""), host=cpu_host(letter * 12), lacks=lacks, at_once=1)

    members = (member("a", {}), member("b", {"openvino": "", "turbomind": "needs an NVIDIA GPU", "llamacpp": ""}))
    surveyed = Survey(members=members, unusable={"node-c": "it has autobackend 0.9; this is 1.0"})
    assert hosts_screen(surveyed) == [
        "2 hosts: AMD EPYC 7763 (zen3), 2 cores, 24 GiB",
        "  node-a  aaaaaaaaaaaa  has all backends",
        "  node-b  bbbbbbbbbbbb  lacks openvino and llamacpp, takes no turbomind",
        "",
        "no part: node-c, it has autobackend 0.9; this is 1.0",
    ]
    [group] = surveyed.to_json()["groups"]
    assert [(host["lacks"], host["unfit"]) for host in group["hosts"]] == [
        ([], {}), (["openvino", "llamacpp"], {"turbomind": "needs an NVIDIA GPU"}),
    ]  # fmt: skip
    assert [host["spec"] for host in group["hosts"]] == [cpu_host(letter * 12).to_json() for letter in "ab"]

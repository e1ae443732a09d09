"""What `autobackend fleet` refuses before it joins a cluster."""

from click.testing import CliRunner

from calibration.errors import UsageError
from selector.cli import main


def test_a_load_is_refused_with_the_reason_and_the_mend() -> None:
    ran = CliRunner().invoke(
        main,
        ["fleet", "calibrate", "shape:a", "--workload", "pp512:tg128:c8", "--cache", "c.db", "--ray", "127.0.0.1:1"],
    )
    assert ran.exit_code == UsageError.exit_code
    assert ran.stderr == (
        "error: a fleet is calibrated for batches, since no host inherits what another did under load;"
        " found pp512:tg128:c8\n"
        "calibrate the batches of all hosts so, and loads on each host that serves: autobackend calibrate\n"
    )

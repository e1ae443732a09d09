"""A load measured against the mock server."""

from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import NoPoint, Point
from calibration.load.trace import Trace
from tests.calibration.load.mock_server import Mock


def measured(
    mock: Mock, label: str, *, budget_s: float = 30.0, key: str = "", trace: Trace | None = None, **fields: object
) -> Point | NoPoint:
    served = LoadedServer(url=mock.url, model="mock", vocab_size=100, key=key)
    load = trace.load if trace else Load.parse(label)
    measuring = Measuring(budget_s=budget_s, **fields)  # type: ignore[arg-type]
    return run_load(served, load, measuring, trace=trace)


def point(mock: Mock, label: str, **fields: object) -> Point:
    outcome = measured(mock, label, **fields)  # type: ignore[arg-type]
    assert isinstance(outcome, Point), outcome
    return outcome

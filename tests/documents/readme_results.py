"""What results/ has of the host and the model of the README's screens."""

from calibration.measurement import Outcome
from selector.demand.demand import Demand
from selector.evidence.evidence import weigh
from selector.evidence.ranking import Ranked, rank
from selector.publish.hosts.host_file import HostResults, read
from tests.documents.generated import ROOT

HOST = "ac3e84e793a4"
SELECTED, CALIBRATED = "shape:smollm2-135m", "shape:llama-3.1-8b"
CUT = "3/32"
"""What CALIBRATED was timed on."""


def calibrated_outcomes() -> list[Outcome]:
    """Of the screen of `calibrate`."""
    return [o for o in _results().outcomes if o.model == CALIBRATED and o.identity.cut == CUT]


def readme_outcomes() -> list[Outcome]:
    """Of the screen of `select`."""
    return [o for o in _results().outcomes if o.model == SELECTED and not o.identity.cut]


def readme_ranking(workload: str = "pp1024:tg32:b4") -> tuple[Ranked, ...]:
    """Of the candidates that `select` compares there: those that were legal and not left out."""
    results, outcomes = _results(), readme_outcomes()
    known = weigh(outcomes, outcomes[0].identity.config, results.environments)
    labels = [v.label for v in results.verdicts[SELECTED] if not v.reasons and not v.left_out]
    records = [known.measured[label] for label in labels if label in known.measured]
    return rank(records, Demand.of(workload=workload), device_kind=results.device_kind)


def _results() -> HostResults:
    return read(ROOT / "results" / "hosts" / f"{HOST}.json")

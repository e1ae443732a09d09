"""What results/ has of the host and the model of the README's screens."""

from calibration.measurement import Outcome
from selector.demand import Demand
from selector.evidence import weigh
from selector.publish.host_file import HostResults, read
from selector.ranking import Ranked, rank
from tests.documents import ROOT

HOST, MODEL = "ac3e84e793a4", "shape:smollm2-135m"


def readme_outcomes() -> list[Outcome]:
    return [outcome for outcome in _results().outcomes if outcome.model == MODEL]


def readme_ranking() -> tuple[Ranked, ...]:
    """Of all candidates of results/, also those whose engine the README's machine does not have installed."""
    outcomes = readme_outcomes()
    known = weigh(outcomes, outcomes[0].identity.config, _results().environments)
    return rank(known.measured.values(), Demand.of(workload="pp1024:tg32:b4"))


def _results() -> HostResults:
    return read(ROOT / "results" / "hosts" / f"{HOST}.json")

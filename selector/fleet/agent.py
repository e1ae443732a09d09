"""What runs on a node of a fleet: says what machine it is, and runs autobackend's own commands there.

A command runs in a process group that ends with the agent, however that ends; so nothing is left on a node whose driver
was killed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from selector.demand.demand import Demand
from selector.fleet.command import Commands, Ended


class Agent:
    """One on each node. `run` takes as long as its command; everything else may be called meanwhile."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Args:
        variables: over the node's own environment variables.
        """
        os.environ.update(variables)
        # Ray gives its workers a nice value of 15 (worker_niceness): what is timed has that of Ray itself, as it has
        # where somebody calibrates by hand.
        self._commands = Commands(nice=os.getpriority(os.PRIO_PROCESS, os.getppid()))

    def describe(self) -> dict[str, Any]:
        """The version of autobackend, the HostSpec of this machine, the backends that it lacks (see lacking), and on
        how many devices it calibrates at once.
        """
        from selector.fleet.lacking import lacking
        from selector.fleet.seats import seats_of
        from selector.host.spec import HostSpec

        host = HostSpec.detect()
        return {
            "version": version("autobackend"),
            "host": host,
            "lacks": lacking(host),
            "at_once": max(1, len(seats_of(host))),
        }

    def run(self, words: Sequence[str]) -> Ended:
        """Run `autobackend WORDS...` and return how it ended."""
        return self._commands.run(words)

    def calibrate(self, model: str, demand: Demand, words: Sequence[str]) -> Ended:
        """Run `autobackend calibrate` for a model, its candidates spread over the devices of this machine.

        Args:
            words: options beside those of the demand.

        Returns:
            How it ended; where it ended well, with the two best by what was measured here.

        Raises:
            AutobackendError: as calibrate and select do.
        """
        from selector.fleet.seats import seats_of
        from selector.fleet.spread import calibrate_spread
        from selector.host.spec import HostSpec

        host = HostSpec.detect()
        ended = calibrate_spread(model, demand, words, host=host, seats=seats_of(host), commands=self._commands)
        return ended if ended.code else replace(ended, best=_best(model, demand))

    def end(self) -> None:
        """End this process, and with it all that it runs."""
        os._exit(0)

    def now(self) -> str:
        """The last line that the command printed; empty while none runs."""
        return self._commands.now


def _best(model: str, demand: Demand) -> tuple[str, ...]:
    """The pick of this machine and who comes next, by what was measured here; empty where nothing was.

    Raises:
        AutobackendError: as select does.
    """
    from selector.answer import Source
    from selector.selection import choose

    answer = choose(model, demand, cache=os.environ["AUTOBACKEND_CACHE"])
    match answer.source:
        case Source.MEASURED | Source.FORCED:
            order = [ranked.candidate.label for ranked in answer.ranking]
        case Source.LAYERS:
            launched = {layers.record.candidate.label for layers in answer.layers}
            predicted = answer.prediction.predicted if answer.prediction else ()
            order = [row.candidate for row in predicted if row.candidate in launched]
        case _:
            return ()
    return tuple(dict.fromkeys((answer.candidate.label, *order)))[:2]

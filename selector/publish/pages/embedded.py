"""What the page's script knows, as JSON in the page: each figure, sample, version and reason once."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from calibration.measurement import Cell, Failure, Identity
from calibration.workload import Workload, grid
from selector.publish.hosts.host_file import HostResults
from selector.publish.matrix.figures import Figure, View
from selector.publish.matrix.matrix import Matrix, Row, Square
from selector.publish.matrix.not_launched import not_launched_of
from selector.publish.matrix.rerun import Rerun, command
from selector.publish.matrix.shares import of_memory, of_products
from selector.publish.pages.picks import launched, shown_first
from selector.publish.pages.wording import TITLES, amount, called, percent
from selector.screens.text import day, within

LOG_CHARACTERS = 1500
"""The end of a failure's log; the whole of what was kept is in the host's file."""

Json = dict[str, Any]


class Texts(list[str]):
    """Texts that many squares share; a square holds a text's number."""

    def number(self, text: str) -> int:
        """The number of a text, which is added where it is new."""
        if text not in self:
            self.append(text)
        return self.index(text)


def embedded(matrix: Matrix, anchors: Mapping[Identity, str]) -> str:
    """JSON that may stand in a script element.

    Args:
        anchors: the id in the page of each row's model.
    """
    texts = Texts()
    content = {
        "views": [{"name": view, "title": TITLES[view]} for view in View],
        "workloads": {w.label: called(w) for w in matrix.workloads},
        "hosts": [_host(matrix, host, texts, anchors) for host in matrix.hosts],
        "texts": texts,
    }
    # A text may hold "</script>".
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _host(matrix: Matrix, host: HostResults, texts: Texts, anchors: Mapping[Identity, str]) -> Json:
    workloads = matrix.workloads_of(host)
    return {
        "id": host.host,
        "device": host.device,
        "workloads": [w.label for w in workloads],
        "first": [w.label for w in shown_first(workloads).values()],
        "models": [
            {
                "id": anchors[row.identity],
                "variants": [_variant(row, square, workloads, texts) for square in launched(row)],
                "not_launched": [[g.variants, texts.number(g.reason)] for g in not_launched_of(row)],
            }
            for row in matrix.of(host)
        ],
    }


def _variant(row: Row, square: Square, workloads: Sequence[Workload], texts: Texts) -> Json:
    last = square.last
    assert last is not None
    kept: Json = {
        "label": square.label,
        "versions": texts.number(", ".join(f"{name} {version}" for name, version in sorted(last.environment.items()))),
        "command": texts.number(_command(row, square)),
        "last": texts.number(day(last.started_at)),
    }
    if isinstance(last, Failure):
        return kept | {"round": last.round, "log": texts.number(last.log_tail[-LOG_CHARACTERS:])}
    return kept | {
        "launches": square.launches,
        "detail": texts.number(last.agreement.detail),
        **({"lossy": 1} if square.lossy else {}),
        **({"stale": 1} if square.differences else {}),
        **({"may_win": 1} if square.may_win else {}),
        "figures": [_figures(square, view, workloads) for view in View],
        "cells": texts.number(" ".join(cell.workload.label for cell in last.cells)),
        "samples": [[*_samples(cell), *_reached(square, cell)] for cell in last.cells],
    }


def _figures(square: Square, view: View, workloads: Sequence[Workload]) -> str:
    """A figure for each workload, `;` between them, as the script reads it: `1.89 0.45 s~*83`, `719 11 =61`.

    Median and spread as they are shown; then `s` or `m` for seconds or milliseconds, `~` estimated, `x` extrapolated,
    `*` best, `=` tied; then the length of the bar.
    """
    return ";".join(_figure(view, square.figures.get((view, workload.label))) for workload in workloads)


def _figure(view: View, figure: Figure | None) -> str:
    if figure is None:
        return ""
    value, _, half, unit = amount(view, figure).split(" ")
    signs = (
        ("s", unit == "s"),
        ("m", unit == "ms"),
        ("~", figure.estimated),
        ("x", figure.extrapolated),
        ("*", figure.best),
        ("=", figure.tied),
    )
    return f"{value} {half} {''.join(sign for sign, holds in signs if holds)}{percent(figure)}"


def _samples(cell: Cell) -> list[str]:
    """TTFT and TPOT of the clean samples: `138, 139, 137 ms`."""
    return [
        _in_one_unit([s.ttft_s for s in cell.clean]),
        _in_one_unit([s.tpot_s for s in cell.clean if s.tpot_s is not None]),
    ]


def _reached(square: Square, cell: Cell) -> list[str]:
    """Its shares of the machine's limits in prefill and in decode: `41 % of int8`, `78 %`; empty without a probe."""
    label = cell.workload.label
    return [of_products(square.shares, label), of_memory(square.shares, label)] if square.shares else []


def _in_one_unit(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    unit, name = (1.0, "s") if max(seconds) >= 1 else (1e-3, "ms")
    return ", ".join(within(value / unit, 0.0).partition(" ")[0] for value in seconds) + f" {name}"


def _command(row: Row, square: Square) -> str:
    """The command that measures one variant again, with LABEL for the variant, so that variants share it."""
    cells = tuple(cell.workload for cell in square.cells) or grid()
    rerun = Rerun(cells=cells, backends=("LABEL",), lossy=square.lossy, devices=row.identity.device_count)
    return command(row.model, rerun)

"""Points as a table and as JSON values."""

from collections.abc import Sequence
from typing import Any

from calibration.load.figures import percentile
from calibration.load.sample import Figure, NoPoint, Point, RequestTargets

PERCENTS = (50, 90, 95, 99)
_HEAD = ("load", "requests", "tok/s", "req/s", "TTFT p50", "p95", "TPOT p50", "p95", "ITL p99", "E2E p50", "p95")


def table(points: Sequence[Point | NoPoint], targets: RequestTargets | None) -> list[str]:
    """Aligned lines: a row for each point, and below it what is to be said of it."""
    rows = [_HEAD, *(_row(point) for point in points)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    notes = [[], *(_notes(point, targets) for point in points)]
    return [
        text.rstrip() for line, said in zip(lines, notes, strict=True) for text in (line, *(f"  {s}" for s in said))
    ]


def to_json(point: Point | NoPoint, targets: RequestTargets | None) -> dict[str, Any]:
    """The figures of a point, without its raw samples; seconds."""
    if isinstance(point, NoPoint):
        return {"load": point.load.label, "failed": point.reason}
    shown: dict[str, Any] = {
        "load": point.load.label,
        "seed": point.seed,
        "requests": len(point.sample),
        "failed_requests": len(point.failures),
        "window_s": point.window_s,
        "end": str(point.end),
        "saturated": point.saturated or None,
        "void": point.void or None,
        "output_tps": point.output_tps,
        "request_rate": point.request_rate,
        **{
            figure.value: {f"p{percent}_s": point.percentile(figure, percent) for percent in PERCENTS}
            for figure in Figure
        },
        "send_delay": {f"p{percent}_s": percentile(point.send_delays_s, percent) for percent in PERCENTS},
        "foreign_share": point.foreign_share,
        "client_cores": point.client_cores,
        "peak_memory_bytes": point.peak_memory_bytes or None,
        "peak_gpu_memory_bytes": point.peak_gpu_memory_bytes,
    }
    if targets:
        share = point.attainment(targets)
        low, high = share.interval
        shown["attainment"] = {"kept": share.kept, "of": share.of, "share": share.value, "low": low, "high": high}
        shown["goodput"] = point.goodput(targets)
    return shown


def _row(point: Point | NoPoint) -> tuple[str, ...]:
    if isinstance(point, NoPoint):
        return (point.load.title, *("-" for _ in _HEAD[1:]))
    figures = (
        *((Figure.TTFT, 50), (Figure.TTFT, 95), (Figure.TPOT, 50), (Figure.TPOT, 95)),
        *((Figure.ITL, 99), (Figure.E2E, 50), (Figure.E2E, 95)),
    )
    times = (point.percentile(figure, percent) for figure, percent in figures)
    return (
        *(point.load.title, str(len(point.sample)), _number(point.output_tps), _number(point.request_rate)),
        *map(_seconds, times),
    )


def _notes(point: Point | NoPoint, targets: RequestTargets | None) -> list[str]:
    if isinstance(point, NoPoint):
        return [f"not measured: {point.reason}"]
    notes = []
    if targets:
        goodput = point.goodput(targets)
        notes.append(
            f"{targets}: kept by {point.attainment(targets)} requests"
            + (f"; goodput {_number(goodput)} req/s" if goodput is not None else "")
        )
    if point.saturated:
        notes.append(f"saturated: {point.saturated}")
    if point.void:
        notes.append(f"void: {point.void}")
    if point.failures and not point.void:
        notes.append(f"{len(point.failures)} requests failed: {point.failures[0]}")
    delays = point.send_delays_s
    if delays:
        notes.append(f"sent late by {_seconds(percentile(delays, 50))} (p50), {_seconds(max(delays))} (most)")
    if point.text_prompts:
        notes.append("the server takes no token ids: prompts were words, about as long as asked for")
    if point.foreign_share is None:
        notes.append("nobody watched what else used the cores: --pid names the server's process")
    return notes


def _seconds(value: float | None) -> str:
    """Three digits: `1.25 s`, `202 ms`, `9.87 ms`."""
    if value is None:
        return "-"
    return f"{_number(value)} s" if value >= 1 else f"{_number(value * 1e3)} ms"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"

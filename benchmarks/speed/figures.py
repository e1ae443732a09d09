"""The figures of docs/benchmarks.md, from what pytest-benchmark measured.

`python -m benchmarks.speed.figures BENCHMARKS.json FIGURES.json`
"""

import json
import sys
from pathlib import Path
from statistics import quantiles
from typing import Any

SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def main() -> None:
    measured, destination = Path(sys.argv[1]), Path(sys.argv[2])
    report = json.loads(measured.read_text())
    figures = [figure(benchmark) for benchmark in report["benchmarks"]]
    content = {"date": report["datetime"], "commit": report["commit_info"].get("id"), "figures": figures}
    destination.write_text(json.dumps(content, indent=2) + "\n")
    rows = [("what", "target", "measured"), *(shown(f) for f in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def figure(benchmark: dict[str, Any]) -> dict[str, Any]:
    """Name, target and what was measured; times in seconds."""
    stats, extra = benchmark["stats"], benchmark["extra_info"]
    shown_figure = {"name": benchmark["name"], **extra}
    if "value_bytes" not in extra and "cells" not in extra:
        p95 = quantiles(stats["data"], n=20)[-1] if len(stats.get("data", ())) > 1 else stats["max"]
        shown_figure |= {"p50_s": stats["median"], "p95_s": p95, "least_s": stats["min"], "rounds": stats["rounds"]}
    return shown_figure


def shown(figure: dict[str, Any]) -> tuple[str, str, str]:
    """What, target, measured."""
    what = figure.get("what", figure["name"])
    if "cells" in figure:
        ratios = [
            f"{cell['cell']} {name.upper()} {cell[f'{name}_ratio']:.3f} ± {cell[f'{name}_ratio_spread']:.3f}"
            for cell in figure["cells"]
            for name in ("ttft", "tpot")
        ]
        return what, f"{figure['target_ratio']:g}", ", ".join(ratios)
    if "value_bytes" in figure:
        return what, f"{figure['target_bytes'] >> 20} MiB", f"{figure['value_bytes'] / (1 << 20):.0f} MiB"
    target = seconds(figure["target_s"]) if "target_s" in figure else ""
    return what, target, f"{seconds(figure['p50_s'])} (p95 {seconds(figure['p95_s'])})"


def seconds(value: float) -> str:
    unit, name = next(((u, n) for u, n in SECONDS if value >= u), SECONDS[-1])
    return f"{value / unit:.3g} {name}"


if __name__ == "__main__":
    main()

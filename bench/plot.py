"""A plot of a report: throughput beside the raw limit, and latency, round by round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

INK, LIMIT, STORED = "#1f5fa8", "#c9ced6", "#d9822b"


def plot(report: dict[str, Any], path: Path) -> None:
    """Write the plot of a report of `python -m bench --json` to an SVG or PNG file."""
    rounds = report["rounds"]
    stored = report.get("rounds_stored", [])
    numbers = list(range(1, len(rounds) + 1))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    figure.suptitle(f"{report['shape']}, durability {report['durability']}")
    left.bar(numbers, [row["raw_runs_per_s"] for row in rounds], color=LIMIT, label="raw limit")
    left.bar(numbers, [row["runs_per_s"] for row in rounds], width=0.5, color=INK, label="runs")
    if stored:
        left.plot(numbers, [row["runs_per_s"] for row in stored], "o", color=STORED, label="runs, full store")
    left.set(xlabel="round", ylabel="runs per second", xticks=numbers)
    left.legend(frameon=False)
    right.plot(numbers, [row["p50_ms"] for row in rounds], "o-", color=INK, label="p50")
    right.plot(numbers, [row["p99_ms"] for row in rounds], "o--", color=INK, alpha=0.5, label="p99")
    right.set(xlabel="round", ylabel="ms per run, one at a time", xticks=numbers, ylim=(0, None))
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

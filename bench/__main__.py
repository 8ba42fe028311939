"""`python -m bench [--shape chain|single|fanout] [--durability always|os] [--rounds 5] [--stored N] [--json FILE]`

Each round measures, one after the other in the same system: runs saturated, runs one by one, and the raw limit. What
counts is the ratio within a round; machines and days differ. With `--stored N` the store holds N ended runs first, and
the first line of the report compares with the empty store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

from bench.load import idle, saturated
from bench.raw import raw_messages_per_s
from bench.shapes import SHAPES, Shape
from bench.system import System, running
from dagnats import Client

RUNS = {"chain": 4000, "single": 6000, "fanout": 60}
IDLE_RUNS = {"chain": 200, "single": 200, "fanout": 20}


async def measure_round(client: Client, system: System, shape: Shape, synced: bool) -> dict[str, float]:
    """One round: all figures of the JSON file."""
    runs = RUNS[shape.name]
    one_by_one = await idle(client, shape, IDLE_RUNS[shape.name])
    load = await saturated(client, system, shape, runs)
    raw = await raw_messages_per_s(client, system.nats_url, round(runs * load.stored_per_run), synced)
    return {
        "runs_per_s": round(load.runs_per_s, 1),
        "steps_per_s": round(load.runs_per_s * shape.steps, 1),
        "raw_runs_per_s": round(raw / load.stored_per_run, 1),
        "ratio": round(load.runs_per_s * load.stored_per_run / raw, 3),
        "p50_ms": round(one_by_one.p50_ms, 2),
        "p99_ms": round(one_by_one.p99_ms, 2),
        "stored_per_run": round(load.stored_per_run, 3),
        "bytes_per_run": round(load.bytes_per_run),
        "cpu_s": round(load.cpu_s, 3),
        "cpu_us_per_run": round(load.cpu_s * 1e6 / runs),
    }


async def measure(system: System, shape: Shape, synced: bool, rounds: int, stored: int) -> dict[str, Any]:
    """All rounds, on the empty store and then, if asked, on one with `stored` ended runs."""
    async with Client.connect(system.nats_url, timeout=30) as client:
        await _registered(client, shape)
        await saturated(client, system, shape, max(20, RUNS[shape.name] // 10))
        empty = await _rounds("empty store", client, system, shape, synced, rounds)
        report: dict[str, Any] = {"rounds": empty}
        if stored:
            await _fill(client, system, stored)
            full = await _rounds(f"{stored} ended runs stored", client, system, shape, synced, rounds)
            report["rounds_stored"] = full
            report["stored_ratio"] = round(_median(full, "runs_per_s") / _median(empty, "runs_per_s"), 3)
        return report


async def _rounds(
    title: str, client: Client, system: System, shape: Shape, synced: bool, rounds: int
) -> list[dict[str, float]]:
    print(
        f"\n{title}\n{'':>7}{'runs/s':>9}{'steps/s':>9}{'raw':>9}{'ratio':>7}{'p50 ms':>8}{'p99 ms':>8}",
        end="",
    )
    print(f"{'msgs':>8}{'bytes':>8}{'cpu s':>8}{'µs/run':>8}")
    rows = []
    for number in range(1, rounds + 1):
        row = await measure_round(client, system, shape, synced)
        rows.append(row)
        _print_row(str(number), row)
    _print_row("median", {key: statistics.median(row[key] for row in rows) for key in rows[0]})
    return rows


def _print_row(title: str, row: dict[str, float]) -> None:
    print(
        f"{title:>7}{row['runs_per_s']:>9.0f}{row['steps_per_s']:>9.0f}{row['raw_runs_per_s']:>9.0f}{row['ratio']:>7.2f}"
        f"{row['p50_ms']:>8.2f}{row['p99_ms']:>8.2f}{row['stored_per_run']:>8.2f}{row['bytes_per_run']:>8.0f}"
        f"{row['cpu_s']:>8.2f}{row['cpu_us_per_run']:>8.0f}",
        flush=True,
    )


async def _fill(client: Client, system: System, stored: int) -> None:
    shape = SHAPES["single"]
    have = await client.count()
    for first in range(have, stored, 5000):
        await saturated(client, system, shape, min(5000, stored - first))
        print(f"\rfilling the store: {min(first + 5000, stored)} of {stored}", end="", flush=True)
    print()


async def _registered(client: Client, shape: Shape) -> None:
    """Wait until the worker has registered its workflows."""
    while shape.workflow.name not in [item.name async for item in client.workflows()]:
        await asyncio.sleep(0.05)


def _median(rows: list[dict[str, float]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--shape", choices=list(SHAPES), default="chain")
    parser.add_argument("--durability", choices=["always", "os"], default="always")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stored", type=int, default=0, help="measure again with so many ended runs in the store")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds")
    parser.add_argument("--plot", type=Path, help="write a plot (SVG or PNG)")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    with running(options.durability) as system:
        report = asyncio.run(measure(system, shape, options.durability == "always", options.rounds, options.stored))
    report = {"shape": shape.name, "durability": options.durability, **report}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        from bench.plot import plot

        plot(report, options.plot)


if __name__ == "__main__":
    main()

"""`python -m tests.chaos --seed N --duration 180 [--json FILE] [--plant NAME]`: kill everything, then check.

Exit code 0 if nothing was lost, stuck or duplicated; 1 otherwise. `--plant` leaves out a rule of the protocol, to see
that the checker finds it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from dagnats import Client
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError
from dagnats_core.telemetry.logs import LogFormat, LogLevel, configure_logs
from tests.chaos.checker import Stored, Verdict, check, stored
from tests.chaos.load import Load
from tests.chaos.plants import PLANTS
from tests.chaos.workflows import DEPENDENCIES, WORKFLOWS
from tests.chaos.world import World

SETTLE_S = 90.0
SHOWN = 20


async def chaos(directory: Path, seed: int, duration_s: float, plant: str) -> Verdict:
    """Torment a system for so long, let it come to rest, and check what stands."""
    world = World(directory, seed, plant)
    await world.start()
    try:
        async with Client.connect(world.url, site="local", timeout=30) as client:
            await _registered(client)
            load = Load(client, seed)
            await asyncio.gather(load.run(duration_s), world.torment(duration_s))
            await load.settle(SETTLE_S)
            log = await _read_log(client)
        verdict = check(log, load.acknowledged, world.read_effects(), DEPENDENCIES)
        verdict.kills = world.kills
        return verdict
    finally:
        await world.stop()


async def _registered(client: Client) -> None:
    while True:
        try:
            if {item.name async for item in client.workflows()} >= set(WORKFLOWS):
                return
        except DagNatsError:
            pass
        await asyncio.sleep(0.1)


async def _read_log(client: Client) -> list[Stored]:
    """Every message of every run, timers left out."""
    found: list[Stored] = []

    def on_message(message: FastMessage, seq: int, time_ms: int) -> None:
        if not message.subject.endswith(".timer"):
            found.append(stored(seq, message.subject, message.data))

    topology = Topology(client.site)
    for stream in topology.run_streams:
        filters = [f"dagnats.{client.site}.run.>"]
        reader = OrderedReader(client.micro.connection, stream, filters, on_message, start=1)
        await reader.start()
        await reader.caught_up.wait()
        await reader.stop()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration", type=float, default=180.0, help="seconds of torment")
    parser.add_argument("--json", type=Path, help="write the verdict")
    parser.add_argument("--plant", choices=["none", *PLANTS], default="none", help="leave a rule out")
    parser.add_argument("--keep", type=Path, help="keep data and logs in this directory")
    options = parser.parse_args()
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)
    with tempfile.TemporaryDirectory(prefix="dagnats-chaos-") as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        verdict = asyncio.run(chaos(directory, options.seed, options.duration, options.plant))
    for violation in verdict.violations[:SHOWN]:
        print(violation)
    figures = {key: value for key, value in asdict(verdict).items() if key != "violations"}
    print(f"chaos seed {options.seed}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(asdict(verdict), indent=1) + "\n")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())

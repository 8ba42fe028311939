"""Kill everything, again and again, while runs go on; then hold the log against what was acknowledged.

Starts a serve, two engines and two workers, and a client that starts runs all the time; kills, stalls and cuts off
processes about once a second for --duration seconds; lets everything come to rest; then reads the whole run log and the
files in which the workers wrote what they saw. Prints what is wrong, and one line:

  acknowledged  starts that the client was told of        lost        of what was acknowledged, not in the log
  ended         runs of them that have ended              stuck       runs that never end
  kills         processes killed                          duplicated  what happened twice, out of turn, after the end

Exit code 0 if nothing is wrong, 1 otherwise. A failing seed is run again with the same --seed; --keep DIR leaves the
data directory, the log of each program and the workers' files for a look. Which deed hits when depends on the machine
too, so a failure may need several tries to come again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dagnats import Client
from dagnats_core.bus.consume import OrderedReader
from dagnats_core.bus.message import FastMessage
from dagnats_core.bus.topology import Topology
from dagnats_core.errors import DagNatsError
from dagnats_core.telemetry.logs import LogFormat, LogLevel, configure_logs
from tests.chaos.checker import Verdict, check
from tests.chaos.follow import Follower
from tests.chaos.history import Stored, stored
from tests.chaos.load import Load
from tests.chaos.plants import PLANTS
from tests.chaos.torment import DEEDS, Torment
from tests.chaos.witness import read_all
from tests.chaos.workflows import DEPENDENCIES, WORKFLOWS
from tests.chaos.world import World

ANSWER_S_MAX = 30.0
"""From the last deed to the answer to the last start."""
SETTLE_S_MAX = 90.0
QUIET_S = 25.0
"""Nothing written for so long, and a run open: it is stuck. A dead worker's task is handed out again after 15 s."""
SHOWN = 20
SITE = "local"


async def chaos(
    directory: Path, seed: int, duration_s: float, plant: str, deeds: Sequence[str]
) -> tuple[Verdict, dict[str, int]]:
    """Torment a system for so long, let it come to rest, and check what stands; also, how often what was done."""
    world = World(directory, seed, plant)
    await world.start()
    try:
        async with Client.connect(world.url, site=SITE, timeout=30) as client:
            await _registered(client)
            follower = Follower(client.micro.connection, SITE)
            await follower.start()
            load = Load(client, follower, seed)
            torment = Torment(world, load, follower, seed, deeds)
            await asyncio.gather(load.run(duration_s), torment.run(duration_s))
            unanswered = await load.finish(ANSWER_S_MAX)
            await follower.rest(load.runs, QUIET_S, SETTLE_S_MAX)
            await follower.stop()
            log = await _read_log(client)
    finally:
        await world.stop()
    verdict = check(log, load.acknowledged, read_all(world.effects), DEPENDENCIES, follower.ended)
    verdict.kills = world.kills
    verdict.violations += [f"{unanswered} starts were never answered"] if unanswered else []
    verdict.violations += [f"a program ended badly: {crash}" for crash in world.crashes]
    proxies = world.proxies.values()
    late = {
        "late bytes": sum(proxy.late_bytes for proxy in proxies),
        "late publishes refused": sum(proxy.late_refused for proxy in proxies),
    }
    return verdict, {**torment.counts, **late}


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
            found.append(stored(seq, message.subject, time_ms, message.data))

    for stream in Topology(SITE).run_streams:
        reader = OrderedReader(client.micro.connection, stream, [f"dagnats.{SITE}.run.>"], on_message, start=1)
        await reader.start()
        await reader.caught_up.wait()
        await reader.stop()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    about = (__doc__ or "").strip()
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is started, killed, and in which order [1]")
    parser.add_argument("--duration", type=float, default=180.0, help="seconds of torment [180]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and all that is wrong")
    parser.add_argument("--deeds", nargs="+", choices=DEEDS, default=(), help="do only these; workers die anyway")
    parser.add_argument("--plant", choices=["none", *PLANTS], default="none", help="leave a rule out: must exit with 1")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep data, logs and files in this empty directory")
    options = parser.parse_args(argv)
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)
    with tempfile.TemporaryDirectory(prefix="dagnats-chaos-") as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        verdict, done = asyncio.run(chaos(directory, options.seed, options.duration, options.plant, options.deeds))
    figures = asdict(verdict)
    violations = figures.pop("violations")
    for violation in violations[:SHOWN]:
        print(violation)
    if len(violations) > SHOWN:
        print(f"… and {len(violations) - SHOWN} more")
    print("done: " + ", ".join(f"{name} {count}" for name, count in sorted(done.items())))
    print(f"chaos seed {options.seed}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if options.json:
        whole = {"seed": options.seed, "plant": options.plant, **figures, "deeds": done, "violations": violations}
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

"""The processes under test, started with a planted bug or without: `python -m tests.chaos.process PLANT COMMAND…`."""

from __future__ import annotations

import sys

from tests.chaos.plants import PLANTS


def main() -> None:
    plant, command, *arguments = sys.argv[1:]
    if plant != "none":
        PLANTS[plant]()
    sys.argv = [f"dagnats-{command}", *arguments]
    if command == "worker":
        from tests.chaos.worker import main as run
    elif command == "engine":
        from dagnats_cli.engine import main as run
    else:
        from dagnats_cli.main import main as run

        sys.argv = ["dagnats", command, *arguments]
    run()


if __name__ == "__main__":
    main()

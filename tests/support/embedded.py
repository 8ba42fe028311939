"""A process that runs an `EmbeddedServer`, for tests that kill it: `python -m tests.support.embedded DATA_DIR [PORT]`.

It prints the server's URL and process id on one line when it is ready, and then does nothing until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dagnats_core.server.supervisor import EmbeddedServer
from dagnats_core.telemetry.logs import configure_logs


async def main() -> None:
    server = EmbeddedServer(Path(sys.argv[1]), site="local", port=int(sys.argv[2]) if sys.argv[2:] else 0)
    await server.start()
    print(server.url, server.pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    configure_logs()
    asyncio.run(main())

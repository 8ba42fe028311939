"""Installs a wheel alone into a fresh environment and runs a real workflow: `python tests/smoke.py WHEEL`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PROGRAM = """
import asyncio
from dagnats import Worker, Workflow
from dagnats.testing import site, run_workflow

wf = Workflow("smoke")
first = wf.step("first", task="smoke.add")
wf.step("second", task="smoke.add", after=[first])
worker = Worker(workflows=[wf])

@worker.task("smoke.add")
async def add(ctx, value: int) -> int:
    return value + 1

async def main() -> None:
    async with site() as running:
        assert await run_workflow(running, wf, worker, 40) == 42

asyncio.run(main())
"""


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel]
        subprocess.run(pip, check=True, cwd=home)
        subprocess.run([home / "venv" / "bin" / "dagnats", "--version"], check=True, cwd=home)
        subprocess.run([python, "-c", PROGRAM], check=True, cwd=home, timeout=120)
    print("the wheel runs a workflow on its own")


if __name__ == "__main__":
    main()

"""The stock `nats` command line is a complete admin client: discovery, statistics, requests."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dagnats.testing import Site, site
from dagnats_micro.table import ENDPOINTS

SCRIPT = Path(__file__).with_name("run_with_nats_cli.sh")


@pytest.fixture
async def running() -> AsyncIterator[Site]:
    async with site() as started:
        yield started


async def nats(url: str, *arguments: str) -> str:
    """What `nats …` prints; it is installed beside the interpreter by tests/setup.sh, or on the PATH."""
    command = shutil.which("nats", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert command is not None, "the nats command line is not installed: sh tests/setup.sh installs it"
    return await _run(command, *arguments, url=url)


async def _run(*command: str, url: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "NATS_URL": url, "PATH": path, "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{command}: {err.decode()}"
    return out.decode()


async def test_micro_ls_shows_the_service(running: Site) -> None:
    assert "dagnats" in await nats(running.nats_url, "micro", "ls")


async def test_micro_info_shows_every_endpoint_with_its_schemas(running: Site) -> None:
    info = json.loads(await nats(running.nats_url, "micro", "info", "dagnats", "--json"))["info"]
    shown = {endpoint["name"]: endpoint for endpoint in info["endpoints"]}
    assert set(shown) == {endpoint.name for endpoint in ENDPOINTS}
    for endpoint in shown.values():
        assert json.loads(endpoint["metadata"]["request_schema"])
        assert json.loads(endpoint["metadata"]["reply_schema"])
    assert info["metadata"]["site"] == "local"


async def test_micro_stats_count_requests_and_errors(running: Site) -> None:
    await nats(running.nats_url, "service", "request", "dagnats", "wf-list", "{}")
    await nats(running.nats_url, "request", "--raw", "dagnats.local.api.wf.list", "not json")
    stats = json.loads(await nats(running.nats_url, "micro", "stats", "dagnats", "--json"))
    answers = stats if isinstance(stats, list) else [stats]
    endpoints = {endpoint["name"]: endpoint for answer in answers for endpoint in answer["endpoints"]}
    assert endpoints["wf-list"]["num_requests"] == 2
    assert endpoints["wf-list"]["num_errors"] == 1


async def test_service_request_answers(running: Site) -> None:
    assert '"items"' in await nats(running.nats_url, "service", "request", "dagnats", "wf-list", "{}")


async def test_a_run_with_nothing_of_ours(running: Site) -> None:
    lines = (await _run("sh", str(SCRIPT), url=running.nats_url)).splitlines()
    registered, started, run = (json.loads(line) for line in lines if line.strip())
    assert registered["version"] == 1
    assert run["run_id"] == started["run_id"]
    assert run["status"] in ("pending", "running")
    assert [step["id"] for step in run["steps"]] == ["only"]
    assert run["input"] == {"who": "nats"}

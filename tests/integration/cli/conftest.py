"""A site of canned answers, and the command line pointed at it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest
import structlog

from dagnats_cli import main
from dagnats_core import ids
from dagnats_core.bus.connection import ConnectOptions, connect
from tests.support.fake_api import FakeApi
from tests.support.fake_runs import FakeRuns
from tests.support.nats import NatsServer


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Cli:
    """Runs command lines in a thread of their own, each with an event loop of its own, as a process would."""

    def __init__(self, api: FakeApi, site: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.api = api
        self.runs = FakeRuns(api)
        self.site = site
        self.url = url
        self._capsys = capsys

    async def __call__(self, *tokens: str) -> Result:
        everywhere = ["--site", self.site, "--nats-url", self.url]
        code = await asyncio.to_thread(main.run, [*tokens, *everywhere])
        captured = self._capsys.readouterr()
        return Result(code, captured.out, captured.err)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log lines between the results; what a command configures does not outlive its test."""
    config, level = structlog.get_config(), logging.getLogger().level
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**config)
    logging.getLogger().setLevel(level)


@pytest.fixture
async def cli(quiet: None, shared_nats: NatsServer, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Cli]:
    site = f"t{secrets.token_hex(6)}"
    connection = await connect(ConnectOptions(urls=(shared_nats.url,)))
    api = FakeApi(connection, site)
    await api.start()
    capsys.readouterr()
    try:
        yield Cli(api, site, shared_nats.url, capsys)
    finally:
        await api.stop()
        await connection.close()


def run_id(stem: str) -> str:
    """A run id that begins with `stem`."""
    return (stem + "0" * 26)[:26] + ids.base32(3, 2)

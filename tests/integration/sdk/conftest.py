"""A fake site on a real nats-server, for tests of the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.fake_site import FakeSite, fake_site
from tests.support.nats import NatsServer


@pytest.fixture
async def site(shared_nats: NatsServer) -> AsyncIterator[FakeSite]:
    async with fake_site(shared_nats.url) as running:
        yield running


@pytest.fixture
async def own_site(nats_server: NatsServer) -> AsyncIterator[FakeSite]:
    """A site on a server that the test may kill."""
    async with fake_site(nats_server.url) as running:
        yield running

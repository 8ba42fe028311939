"""The fixture that other tests stand on: it keeps port and store over `kill -9`, and leaves nothing."""

from __future__ import annotations

import nats

from tests.support.nats import NatsServer
from tests.support.processes import running_in_group


async def test_kill_and_restart_keep_port_and_messages(nats_server: NatsServer) -> None:
    url = nats_server.url
    client = await nats.connect(url, allow_reconnect=False)
    await client.jetstream().add_stream(name="S", subjects=["s.>"])
    await client.jetstream().publish("s.1", b"kept")
    await client.close()
    nats_server.restart(kill=True)
    assert nats_server.url == url
    client = await nats.connect(url)
    assert (await client.jetstream().get_msg("S", 1)).data == b"kept"
    await client.close()


def test_nothing_is_left_after_a_stop(nats_server: NatsServer) -> None:
    pid = nats_server.pid
    nats_server.stop()
    assert running_in_group(pid) == []
    nats_server.stop()

"""Connecting, sending, receiving and asking, against a real server that dies and comes back."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nkeys
import pytest
from nats.aio.msg import Msg

from dagnats_core import limits
from dagnats_core.bus.connection import Connection, ConnectOptions, connect
from dagnats_core.bus.errors import ConnectionLost, NoResponders, RequestTimeout
from dagnats_core.bus.message import FastMessage, header_block
from dagnats_core.errors import Busy, DagNatsError, Forbidden, Invalid, TooLarge, Unavailable
from dagnats_core.server.binary import find_binary
from dagnats_core.server.process import free_port
from tests.support.bus import WAIT_S_MAX, eventually, open_connection, unique
from tests.support.nats import NatsServer


async def test_messages_arrive_whole_and_in_order(connection: Connection) -> None:
    subject = unique("order")
    got: list[FastMessage] = []
    await connection.subscribe_fast(subject, got.append)
    block = header_block({"A": "1"})
    for n in range(3000):
        connection.publish_raw(subject, str(n).encode() * (n % 50), "r.x" if n % 3 == 0 else "", block * (n % 2))
    await eventually(lambda: len(got) == 3000, "all arrive")
    for n, message in enumerate(got):
        assert message.data == str(n).encode() * (n % 50)
        assert message.reply == ("r.x" if n % 3 == 0 else "")
        assert message.header("A") == ("1" if n % 2 else None)


async def test_fast_sends_keep_their_order_with_those_of_nats_py(connection: Connection) -> None:
    subject = unique("mixed")
    got: list[bytes] = []
    await connection.subscribe_fast(subject, lambda message: got.append(message.data))
    for n in range(0, 1000, 2):
        connection.publish_raw(subject, str(n).encode())
        await connection.nats.publish(subject, str(n + 1).encode())
    await eventually(lambda: len(got) == 1000, "all arrive")
    assert got == [str(n).encode() for n in range(1000)]


async def test_large_messages_arrive_and_larger_ones_are_refused_here(connection: Connection) -> None:
    subject = unique("large")
    got: list[bytes] = []
    await connection.subscribe_fast(subject, lambda message: got.append(message.data))
    most = connection.max_payload
    for _ in range(3):
        connection.publish_raw(subject, b"x" * most)
    await eventually(lambda: len(got) == 3, "large messages arrive")
    assert {len(data) for data in got} == {most}
    with pytest.raises(TooLarge, match=str(most)):
        connection.publish_raw(subject, b"x" * (most + 1))
    block = header_block({"A": "1"})
    with pytest.raises(TooLarge):
        connection.publish_raw(subject, b"x" * most, "", block)
    with pytest.raises(TooLarge):
        connection.publish_all([(subject, b"small", "", b""), (subject, b"x" * most, "", block)])
    connection.publish_raw(subject, b"x" * (most - len(block) - 12), "", block)
    await eventually(lambda: len(got) == 4, "the largest with headers arrives, and nothing of the refused ones")
    assert connection.connected


async def test_a_queue_group_shares_and_unsubscribe_ends(connection: Connection) -> None:
    subject = unique("queue")
    one: list[FastMessage] = []
    two: list[FastMessage] = []
    first = await connection.subscribe_fast(subject, one.append, queue="q")
    await connection.subscribe_fast(subject, two.append, queue="q")
    for _ in range(200):
        connection.publish_raw(subject, b"")
    await eventually(lambda: len(one) + len(two) == 200, "each message reaches one member")
    assert one
    assert two
    await connection.unsubscribe_fast(first)
    one.clear()
    for _ in range(50):
        connection.publish_raw(subject, b"")
    await eventually(lambda: len(two) >= 50, "the other member gets the rest")
    assert one == []


async def test_a_failing_callback_hurts_nobody_else(connection: Connection) -> None:
    subject = unique("fail")
    got: list[bytes] = []

    def callback(message: FastMessage) -> None:
        got.append(message.data)
        if message.data == b"bad":
            raise RuntimeError("planned")

    await connection.subscribe_fast(subject, callback)
    for data in (b"bad", b"good"):
        connection.publish_raw(subject, data)
    await eventually(lambda: got == [b"bad", b"good"], "the next message is delivered")
    await connection.flush()


async def test_ordinary_subscriptions_still_work(connection: Connection) -> None:
    subject = unique("slow")
    got: list[tuple[bytes, str]] = []

    async def callback(message: Msg) -> None:
        got.append((message.data, (message.headers or {}).get("A", "")))

    await connection.nats.subscribe(subject, cb=callback)
    connection.publish_raw(subject, b"1", "", header_block({"A": "x"}))
    await eventually(lambda: got == [(b"1", "x")], "nats-py's own callback is called")


async def test_many_requests_each_get_their_own_reply(connection: Connection) -> None:
    subject = unique("echo")
    await connection.subscribe_fast(subject, lambda m: connection.publish_raw(m.reply, m.data))
    replies = await asyncio.gather(*(connection.request(subject, str(n).encode(), 5) for n in range(500)))
    assert [reply.data for reply in replies] == [str(n).encode() for n in range(500)]


async def test_nobody_there_is_told_at_once_and_silence_in_time(connection: Connection) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(NoResponders, match="nobody answers"):
        await connection.request(unique("nobody"), b"", 10)
    assert loop.time() - started < 2
    subject = unique("silent")
    await connection.subscribe_fast(subject, lambda message: None)
    with pytest.raises(RequestTimeout, match=subject):
        await connection.request(subject, b"", 0.1)


async def test_no_server_is_a_clear_error_in_time() -> None:
    url = f"nats://me:secret@127.0.0.1:{free_port()}"
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(Unavailable, match=r"nats://127\.0\.0\.1:\d+ within 0.4 s: .*Connect call failed") as caught:
        await connect(ConnectOptions(urls=(url,), connect_timeout_s=0.4))
    assert loop.time() - started < 3
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "nats://127.0.0.1:notaport"])
async def test_a_url_that_is_none_is_refused_with_the_rule(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        await connect(ConnectOptions(urls=(url,), connect_timeout_s=5))
    assert caught.value.problems[0].path == "nats_url"


async def test_a_first_connect_waits_for_a_server_that_comes(nats_server: NatsServer) -> None:
    nats_server.kill()
    opening = asyncio.ensure_future(open_connection(nats_server))
    await asyncio.sleep(0.2)  # attempts are being refused meanwhile
    nats_server.start()
    connection = await opening
    assert connection.connected
    await connection.close()


async def test_everything_goes_on_after_kill_and_restart(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    told: list[str] = []
    connection.on_disconnect(lambda: told.append("gone"))
    connection.on_reconnect(lambda: told.append("back"))
    remove = connection.on_reconnect(lambda: told.append("removed"))
    remove()
    got: list[bytes] = []
    await connection.subscribe_fast("a", lambda message: got.append(message.data))
    await connection.subscribe_fast("silent", lambda message: None)
    await connection.flush()
    waiting = connection.request_cb("silent", b"", 60)
    nats_server.kill()
    with pytest.raises(ConnectionLost):
        await waiting
    assert told == ["gone"]
    assert not connection.connected
    with pytest.raises(Unavailable, match="not connected"):
        connection.publish_raw("a", b"never sent")
    with pytest.raises(Unavailable):
        await connection.request("a", b"", 1)
    nats_server.start()
    await eventually(lambda: told == ["gone", "back"], "it reconnects by itself")
    connection.publish_raw("a", b"after")
    await eventually(lambda: got == [b"after"], "the subscription came along, and nothing was sent late")
    await connection.close()
    await connection.close()


async def test_an_error_of_the_server_ends_in_a_reconnect(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    back: list[bool] = []
    connection.on_reconnect(lambda: back.append(True))
    client = connection.nats
    client._pending.append(b"PUB a 99999999\r\n")  # the server answers -ERR 'Maximum Payload Violation' and hangs up
    client._pending_data_size += 1
    connection.publish_raw("a", b"")
    await eventually(lambda: back, "it reconnects after -ERR")
    await connection.flush()
    await connection.close()


async def test_a_dead_peer_is_given_up_with_what_it_never_read(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagnats_core.bus.connection.PING_INTERVAL_S", 0.1)
    connection = await open_connection(nats_server)
    told: list[str] = []
    connection.on_disconnect(lambda: told.append("gone"))
    connection.on_reconnect(lambda: told.append("back"))
    nats_server.pause()
    for _ in range(40):
        connection.publish_raw("a", b"x" * 500_000)
    await eventually(lambda: told, "unanswered pings end the connection though 20 MB wait to be sent")
    nats_server.resume()
    await eventually(lambda: told == ["gone", "back"], "it reconnects")
    await connection.close()


async def test_a_close_does_not_wait_for_a_dead_peer(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    nats_server.pause()
    for _ in range(40):
        connection.publish_raw("a", b"x" * 500_000)
    started = asyncio.get_running_loop().time()
    await connection.close()
    assert asyncio.get_running_loop().time() - started < 5
    nats_server.resume()


async def test_close_ends_every_wait(nats_server: NatsServer) -> None:
    connection = await open_connection(nats_server)
    await connection.subscribe_fast("silent", lambda message: None)
    waiting = connection.request_cb("silent", b"", 60)
    await connection.close()
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(Unavailable):
        connection.publish_raw("a", b"")


SEED = nkeys.encode_seed(b"0123456789abcdef0123456789abcdef", nkeys.PREFIX_BYTE_USER)
USERS = """
listen: "127.0.0.1:{port}"
authorization {{ users: [
  {{ user: all, password: pw }},
  {{ nkey: {nkey} }},
  {{ user: few, password: pw, permissions: {{ publish: ["ok.>"], subscribe: ["_INBOX_few.>"] }} }}
] }}
"""


@pytest.fixture
def guarded_url(tmp_path: Path) -> Iterator[str]:
    """A server that asks who is there."""
    port = free_port()
    config = tmp_path / "guarded.conf"
    config.write_text(USERS.format(port=port, nkey=nkeys.from_seed(SEED).public_key.decode()))
    process = subprocess.Popen([find_binary(), "-c", str(config)], stderr=subprocess.DEVNULL)
    yield f"nats://127.0.0.1:{port}"
    process.kill()
    process.wait()


async def as_user(url: str, user: str, password: str = "pw", inbox_prefix: str = "_INBOX") -> Connection:
    return await connect(
        ConnectOptions(
            urls=(url,), user=user, password=password, inbox_prefix=inbox_prefix, connect_timeout_s=WAIT_S_MAX
        )
    )


@pytest.fixture
async def guard(guarded_url: str) -> AsyncIterator[Connection]:
    connection = await as_user(guarded_url, "all")
    yield connection
    await connection.close()


async def test_a_key_and_a_password_in_the_url_are_credentials_too(guard: Connection, guarded_url: str) -> None:
    key = await connect(ConnectOptions(urls=(guarded_url,), nkey_seed=SEED.decode()))
    await key.flush()
    await key.close()
    url = await connect(ConnectOptions(urls=(guarded_url.replace("//", "//all:pw@"),)))
    assert url.url == guarded_url
    await url.close()


async def test_wrong_credentials_are_refused_at_once(guard: Connection, guarded_url: str) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(DagNatsError, match="refuses these credentials") as caught:
        await as_user(guarded_url, "all", "wrong")
    assert caught.value.code == "unauthorized"
    assert loop.time() - started < 5


async def test_a_denied_request_fails_at_once_and_says_so(guard: Connection, guarded_url: str) -> None:
    few = await as_user(guarded_url, "few", inbox_prefix="_INBOX_few")
    await guard.subscribe_fast("ok.echo", lambda m: guard.publish_raw(m.reply, m.data))
    await guard.flush()
    assert (await few.request("ok.echo", b"1", 5)).data == b"1"
    with pytest.raises(Forbidden, match=r"may not publish to Not\.Ok"):
        await few.request("Not.Ok", b"", 30)
    assert few.connected
    await few.close()


async def test_a_choked_socket_is_busy_until_it_drains(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEND_BUFFER_BYTES_MAX", 4 * limits.MIB)
    connection = await open_connection(nats_server)
    await connection.flush()
    nats_server.pause()

    def send_for_ever() -> None:
        for _ in itertools.repeat(None, 200):
            connection.publish_raw("a", b"x" * 500_000)

    with pytest.raises(Busy, match="SEND_BUFFER_BYTES_MAX"):
        send_for_ever()
    nats_server.resume()

    def sent() -> bool:
        try:
            connection.publish_raw("a", b"")
        except Busy:
            return False
        return True

    await eventually(sent, "it can send again once the server reads")
    await connection.close()

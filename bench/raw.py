"""The raw limit: the same number of messages, published and consumed by our own publisher and puller, with no engine.

Same server, same kind of stream, same durability; the puller is a process of its own, as a worker is.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from bench.load import INPUT
from dagnats import Client
from dagnats_core.bus.connection import ConnectOptions, connect
from dagnats_core.bus.consume import PullConsumer, TaskMessage
from dagnats_core.bus.jetstream import api
from dagnats_core.bus.publish import OutMessage, Publisher

STREAM = "bench-raw"
BATCH = 500
WINDOW = 2000
BODY = b'{"v":1,"n":2,"after":1,"at":1764000000000,"task":{"input":' + str(INPUT).encode() + b"}}" + b"x" * 250


async def raw_messages_per_s(client: Client, url: str, messages: int, synced: bool) -> float:
    connection = client.micro.connection
    config = {"name": STREAM, "subjects": ["bench.raw.*"], "storage": "file", "allow_atomic": True}
    await api(connection, f"STREAM.CREATE.{STREAM}", config, dict)
    consumer = {"durable_name": "raw", "ack_policy": "explicit", "max_ack_pending": 20_000}
    body = {"stream_name": STREAM, "config": consumer}
    await api(connection, f"CONSUMER.CREATE.{STREAM}.raw", body, dict)
    puller = subprocess.Popen([sys.executable, "-m", "bench.raw", url, str(messages)], stdout=subprocess.PIPE)
    assert puller.stdout is not None
    try:
        await asyncio.to_thread(puller.stdout.readline)
        publisher = Publisher(connection)
        await publisher.start()
        began = time.perf_counter()
        await (_publish_batches if synced else _publish_singly)(publisher, messages)
        await asyncio.to_thread(puller.wait, 120)
        took = time.perf_counter() - began
        await publisher.stop()
    finally:
        puller.kill()
        await api(connection, f"STREAM.DELETE.{STREAM}", None, dict)
    return messages / took


async def _publish_singly(publisher: Publisher, messages: int) -> None:
    for first in range(0, messages, WINDOW):
        acks = [publisher.publish(f"bench.raw.{i}", BODY) for i in range(first, min(first + WINDOW, messages))]
        await asyncio.gather(*acks)


async def _publish_batches(publisher: Publisher, messages: int) -> None:
    for first in range(0, messages, BATCH * 2):
        last = min(first + BATCH * 2, messages)
        halves = [(first, (first + last) // 2), ((first + last) // 2, last)]
        await asyncio.gather(
            *(
                publisher.publish_batch([OutMessage(f"bench.raw.{i}", BODY) for i in range(a, b)])
                for a, b in halves
                if b > a
            )
        )


async def _pull(url: str, messages: int) -> None:
    """The puller's side: take and acknowledge so many messages."""
    connection = await connect(ConnectOptions(urls=(url,), name="bench-raw"))
    done = asyncio.Event()
    taken = 0

    def on_message(message: TaskMessage) -> None:
        nonlocal taken
        taken += 1
        consumer.ack(message.reply)
        consumer.refill()
        if taken >= messages:
            done.set()

    consumer = PullConsumer(connection, STREAM, "raw", on_message, lambda: WINDOW)
    await consumer.start()
    print("ready", flush=True)
    await done.wait()
    await connection.flush()
    await consumer.stop()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(_pull(sys.argv[1], int(sys.argv[2])))

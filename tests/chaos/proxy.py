"""A TCP proxy that can cut a connection while bytes are on their way, and deliver those bytes later: late publishes."""

from __future__ import annotations

import asyncio

REFUSED = b'"err_code":10071'
"""In the server's answer to a publish: not stored, another stamp stands."""


class Proxy:
    """Listens on a free port and forwards to `target_port` on loopback."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.late_bytes = 0
        self.late_refused = 0
        """Late publishes that the server turned down."""
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._links: dict[_Link, asyncio.Task[None]] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._links.values()):
            task.cancel()
        await asyncio.gather(*self._links.values(), return_exceptions=True)

    async def cut(self, mute_s: float, hold_s: float) -> None:
        """Hold back what clients send for `mute_s`, while they hear all that is said to them; then drop them. What they
        had sent reaches the server `hold_s` after that. Returns when it has."""
        links = [link for link in self._links if not link.held]
        for link in links:
            link.hold()
        await asyncio.sleep(mute_s)
        for link in links:
            link.drop_client()
        await asyncio.sleep(hold_s)
        for link in links:
            self.late_bytes += link.deliver()
        await asyncio.sleep(LATE_ANSWER_S)
        for link in links:
            self.late_refused += link.late.count(REFUSED)
            link.end()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        link = _Link((reader, writer), upstream)
        self._links[link] = task = asyncio.create_task(link.run())
        task.add_done_callback(lambda _: self._links.pop(link))


LATE_ANSWER_S = 0.3
"""How long the server's answers to what was late are listened to, before its side is closed too."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One client's connection. `late`: what the server said after the delivery of what was held."""

    def __init__(self, client: Stream, server: Stream) -> None:
        self._client = client
        self._server = server
        self._bytes_held = bytearray()
        self._delivered = False
        self._ended = asyncio.Event()
        self.held = False
        self.late = bytearray()

    async def run(self) -> None:
        """Forward until either side ends; a held link stays until `end`."""
        pumps = [asyncio.create_task(self._pump_up()), asyncio.create_task(self._pump_down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self.held:
                await self._ended.wait()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for _, writer in (self._client, self._server):
                writer.close()

    def hold(self) -> None:
        self.held = True

    def drop_client(self) -> None:
        self._client[1].transport.abort()

    def deliver(self) -> int:
        """Give the server all that was held; how many bytes. It may have died meanwhile: then they are lost."""
        self._delivered = True
        if self._server[1].is_closing():
            return 0
        self._server[1].write(bytes(self._bytes_held))
        return len(self._bytes_held)

    def end(self) -> None:
        self._ended.set()

    async def _pump_up(self) -> None:
        while data := await self._client[0].read(65536):
            if self.held:
                self._bytes_held += data
                continue
            self._server[1].write(data)
            await self._server[1].drain()

    async def _pump_down(self) -> None:
        while data := await self._server[0].read(65536):
            if self._delivered:
                self.late += data
            elif not self._client[1].is_closing():
                self._client[1].write(data)
                await self._client[1].drain()

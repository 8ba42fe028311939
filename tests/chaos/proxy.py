"""A TCP proxy that can cut a connection while bytes are on their way, and deliver those bytes later: a late publish."""

from __future__ import annotations

import asyncio


class Proxy:
    """Listens on a free port and forwards to `target_port` on loopback. `cut(hold_s)`: clients lose their connection at
    once; what they had sent, and what they send until they notice, reaches the server `hold_s` later."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.close()

    def cut(self, hold_s: float, deaf_s: float) -> None:
        """Hold back what clients send for `deaf_s`, then drop them; the server gets the held bytes `hold_s` later."""
        for link in list(self._links):
            link.cut(hold_s, deaf_s)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        link = _Link((reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    def __init__(self, client: Stream, server: Stream) -> None:
        self._client = client
        self._server = server
        self._held: list[bytes] | None = None
        self._late: asyncio.Task[None] | None = None

    async def run(self) -> None:
        up = asyncio.create_task(self._forward_up())
        down = asyncio.create_task(self._forward_down())
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        if self._late is not None:
            await self._late
        self.close()

    def cut(self, hold_s: float, deaf_s: float) -> None:
        if self._held is None:
            self._held = []
            self._late = asyncio.create_task(self._deliver_late(hold_s, deaf_s))

    def close(self) -> None:
        for _, writer in (self._client, self._server):
            writer.close()

    async def _forward_up(self) -> None:
        while data := await self._client[0].read(65536):
            if self._held is not None:
                self._held.append(data)
                continue
            self._server[1].write(data)
            await self._server[1].drain()

    async def _forward_down(self) -> None:
        while data := await self._server[0].read(65536):
            if self._held is None:
                self._client[1].write(data)
                await self._client[1].drain()

    async def _deliver_late(self, hold_s: float, deaf_s: float) -> None:
        await asyncio.sleep(deaf_s)
        self._client[1].close()
        await asyncio.sleep(hold_s)
        for data in self._held or []:
            self._server[1].write(data)
        try:
            await self._server[1].drain()
        except OSError:
            return  # the server died meanwhile: the bytes are lost
        await asyncio.sleep(0.2)

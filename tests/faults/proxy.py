"""A Kafka proxy on loopback that loses, delays and slows down what passes through it."""

import asyncio
import struct
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

PRODUCE, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 0, 25, 26, 28
_FRAME = struct.Struct(">i")
_HEADER = struct.Struct(">hhi")  # api key, api version, correlation id


class Proxy:
    """Passes Kafka's frames on, both ways, and does harm on demand.

    The broker tells its clients where to connect, so it needs a listener that advertises ``port``: see
    `properties`. Any method may be called while traffic passes. ``heal`` ends every fault.
    """

    def __init__(self) -> None:
        self.port = 0
        self.dropped = 0  # responses that were swallowed so far
        self.seen: dict[int, int] = {}  # requests passed on so far, by api key
        self._upstream = ("127.0.0.1", 0)
        self._drop: dict[int, int] = {}
        self._close_too = False
        self._holding: asyncio.Event | None = None
        self._bytes_per_second: float | None = None
        self._spent_until = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def lead_to(self, port: int) -> None:
        """Pass everything on to this port."""
        self._upstream = ("127.0.0.1", port)

    def drop_responses(self, api_key: int, count: int, *, close_too: bool = False) -> None:
        """Swallow the next ``count`` answers to such requests; the broker has acted on them all the same."""
        self._drop[api_key] = self._drop.get(api_key, 0) + count
        self._close_too = close_too

    def hold(self) -> None:
        """Pass nothing on from now, with the connections open: what a client sees when a cable is pulled."""
        self._do(self._set_held(held=True))

    def throttle(self, bytes_per_second: float | None) -> None:
        """Slow down what goes to the broker, over all connections together."""
        self._bytes_per_second = bytes_per_second

    def cut(self) -> None:
        """Close every connection there is."""
        self._do(self._cut())

    def heal(self) -> None:
        """End every fault."""
        self._drop.clear()
        self._bytes_per_second = None
        self._do(self._set_held(held=False))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._holding = asyncio.Event()
        self._holding.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _set_held(self, *, held: bool) -> None:
        assert self._holding is not None
        (self._holding.clear if held else self._holding.set)()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker_reader, broker_writer = await asyncio.open_connection(*self._upstream)
        except OSError:  # the broker is down, and the client has to see just that
            writer.transport.abort()
            return
        self._writers |= {writer, broker_writer}
        swallow: set[int] = set()
        pumps = [
            asyncio.ensure_future(self._requests(reader, broker_writer, swallow)),
            asyncio.ensure_future(self._responses(broker_reader, writer, swallow)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._writers -= {writer, broker_writer}
            writer.transport.abort()
            broker_writer.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: set[int]) -> None:
        while frame := await self._frame(reader):
            api_key, _, correlation = _HEADER.unpack_from(frame)
            self.seen[api_key] = self.seen.get(api_key, 0) + 1
            if self._drop.get(api_key, 0) > 0:
                self._drop[api_key] -= 1
                swallow.add(correlation)
            if self._bytes_per_second:
                await self._pay(len(frame), self._bytes_per_second)
            await self._pass_on(frame, writer)

    async def _responses(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: set[int]) -> None:
        while frame := await self._frame(reader):
            correlation = _FRAME.unpack_from(frame)[0]
            if correlation not in swallow:
                await self._pass_on(frame, writer)
                continue
            swallow.remove(correlation)
            self.dropped += 1
            if self._close_too:
                return

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            (size,) = _FRAME.unpack(await reader.readexactly(_FRAME.size))
            return await reader.readexactly(size)
        return b""

    async def _pass_on(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        assert self._holding is not None
        await self._holding.wait()
        writer.write(_FRAME.pack(len(frame)) + frame)
        with suppress(ConnectionError):
            await writer.drain()

    async def _pay(self, size: int, bytes_per_second: float) -> None:
        self._spent_until = max(self._spent_until, time.monotonic()) + size / bytes_per_second
        await asyncio.sleep(self._spent_until - time.monotonic())


def properties(port: int, behind_proxy: int, controller: int, proxy: Proxy) -> dict[str, str]:
    """Return the broker's properties for a second listener that is reached through ``proxy`` only."""
    return {
        "listeners": (
            f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind_proxy},CONTROLLER://127.0.0.1:{controller}"
        ),
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://{proxy.address}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }

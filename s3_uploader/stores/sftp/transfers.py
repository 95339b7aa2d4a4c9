"""Transfers of bytes over SFTP: several small requests in flight, which tells slow servers from silent ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

PIECE = 32 * 1024
"""Bytes of one request: every server accepts that many, and one SSH packet holds them."""
_WRITES = 64
_READS = 8
READ_BLOCK = 64 * 1024


class Sender:
    """Writes to one open file. Everything except the constructor runs on the loop.

    :param handle: asyncssh's file object.
    :param tick: called with every answer.
    """

    def __init__(self, handle: Any, tick: Callable[[], None]) -> None:
        self._handle = handle
        self._tick = tick
        self._offset = 0
        self._pending: set[asyncio.Task[None]] = set()

    async def push(self, block: bytes) -> None:
        """Start to write the next bytes. Returns when few enough requests are in flight."""
        for begin in range(0, len(block), PIECE):
            piece = block[begin : begin + PIECE]
            self._pending.add(asyncio.ensure_future(self._write(piece, self._offset)))
            self._offset += len(piece)
        await self._settle(_WRITES)

    async def drain(self) -> None:
        """Wait until the server has confirmed everything."""
        await self._settle(0)

    async def abandon(self) -> None:
        """Cancel the requests in flight."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        self._pending = set()

    async def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _write(self, piece: bytes, offset: int) -> None:
        await self._handle.write(piece, offset)
        self._tick()


class TooMuch(Exception):
    """The server sent more than was requested."""


async def pull(handle: Any, offset: int, tick: Callable[[], None]) -> tuple[list[bytes], bool]:
    """The next bytes of an open file.

    :returns: the bytes in order, and whether the file ends with them.
    :raises TooMuch: if the server sends more than was requested.
    """

    async def read(begin: int) -> bytes:
        piece: bytes = await handle.read(READ_BLOCK, begin)
        tick()
        return piece

    tasks = [asyncio.ensure_future(read(offset + number * READ_BLOCK)) for number in range(_READS)]
    pieces = []
    try:
        for task in tasks:
            piece = await task
            if len(piece) > READ_BLOCK:
                raise TooMuch
            pieces.append(piece)
            if len(piece) < READ_BLOCK:
                return pieces, True
        return pieces, False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

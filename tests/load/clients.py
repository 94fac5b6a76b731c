# SPDX-License-Identifier: MIT
"""Clients without manners, many at once in one thread."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

HUNG_UP = struct.pack("ii", 1, 0)
"""SO_LINGER that makes closing a reset, with which nothing more is sent."""


class Client:
    """One connection to the server of ``url``. Errors of the network are no concern of its."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, url: str, receive_buffer: int | None = None) -> Client:
        """A new one, which takes no more than ``receive_buffer`` bytes ahead of its reading."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        peer = socket.socket()
        if receive_buffer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, (parts.hostname, parts.port))
        limit = receive_buffer or 1 << 16
        return cls(*await asyncio.open_connection(sock=peer, limit=limit))

    async def send(self, data: bytes) -> None:
        with suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    async def received(self) -> bytes:
        """All that comes until the server closes."""
        data = b""
        with suppress(OSError):
            while more := await self.reader.read(65536):
                data += more
        return data

    def leave(self, *, reset: bool = False) -> None:
        """Hangs up."""
        if reset:
            peer = self.writer.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HUNG_UP)
        self.writer.transport.abort()


def upload(image: bytes, path: str = "/classify", *headers: str) -> bytes:
    """A whole request that posts an image."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: node",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(image)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + image


async def side_by_side(
    work: Callable[[int, Random], Awaitable[T]], count: int, at_once: int, seed: int = 1
) -> list[T]:
    """What ``work`` gives for each of 0 to ``count``, ``at_once`` of them side by side."""
    numbers = iter(range(count))
    random = Random(seed)

    async def some() -> list[T]:
        return [await work(number, random) for number in numbers]

    parts = await asyncio.gather(*(some() for _ in range(at_once)))
    return [each for part in parts for each in part]


def many(
    work: Callable[[int, Random], Awaitable[T]], count: int, at_once: int, seed: int = 1
) -> list[T]:
    """``side_by_side``, for those who wait for it."""
    return asyncio.run(side_by_side(work, count, at_once, seed))

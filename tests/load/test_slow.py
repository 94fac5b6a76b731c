# SPDX-License-Identifier: MIT
"""Slow readers, slow writers, and who closes one side of a connection."""

from __future__ import annotations

import asyncio
import time
from random import Random

from smls.site import IDLE_SECONDS
from tests.integration.fleet import THREE
from tests.load.clients import Client, many, upload
from tests.load.watch import FLAT_MB, Watch

READERS = 4
WRITERS = 200

PATIENCE_SECONDS = IDLE_SECONDS + 60
"""The node gives the slow up after IDLE_SECONDS, and who is given up has 15 s more to read;
before that, what lies between node and client is filled."""

ANSWERED = b"HTTP/1.1 "


def test_the_slow_are_given_up_and_others_served(calm: Watch) -> None:
    # Long answers, so that what lies between node and client is soon full of them.
    page = b"GET / HTTP/1.1\r\nHost: node\r\nAccept: text/html\r\n\r\n"
    requests = page * 500, (page + upload(THREE.read_bytes())) * 100
    image = upload(THREE.read_bytes())

    async def read_slowly(number: int, end: float) -> bool:
        client = await Client.to(calm.url, receive_buffer=4096)
        sending = asyncio.ensure_future(send_for_ever(client, requests[number % len(requests)]))
        closed = False
        while not closed and time.monotonic() < end:
            await asyncio.sleep(0.5)
            try:
                closed = not await client.reader.read(1)
            except OSError:
                closed = True
        sending.cancel()
        client.leave()
        return closed

    async def send_for_ever(client: Client, data: bytes) -> None:
        while not client.writer.transport.is_closing():
            await client.send(data)
            await asyncio.sleep(0.01)

    async def write_slowly(number: int, end: float) -> bool:
        client = await Client.to(calm.url)
        begin = number * (len(image) - PATIENCE_SECONDS) // WRITERS
        await client.send(image[:begin])
        rest = iter(image[begin:])
        answer = asyncio.ensure_future(client.received())
        while not answer.done() and time.monotonic() < end:
            await client.send(bytes([next(rest)]))
            await asyncio.sleep(1)
        closed = answer.done()
        answer.cancel()
        client.leave()
        return closed

    async def one(number: int, _: Random) -> bool:
        end = time.monotonic() + PATIENCE_SECONDS
        slow = read_slowly if number < READERS else write_slowly
        return await slow(number if number < READERS else number - READERS, end)

    before = calm.resident_mb()
    with calm.neighbour():
        closed = many(one, READERS + WRITERS, READERS + WRITERS)
    assert all(closed)
    assert calm.resident_mb() - before < FLAT_MB


def test_who_closes_the_sending_side_has_hung_up(calm: Watch) -> None:
    whole = upload(THREE.read_bytes(), "/classify", "Connection: close")

    async def half_close(number: int, random: Random) -> bytes:
        client = await Client.to(calm.url)
        await client.send(whole[: len(whole) if number % 2 else random.randint(0, len(whole) - 1)])
        client.writer.write_eof()
        answer = await client.received()
        client.leave()
        return answer

    with calm.neighbour():
        answers = many(half_close, 400, 50)
    # Who was quick enough has its answer; the others have none, and nobody a wrong one.
    assert {answer[:12] for answer in answers} <= {b"", ANSWERED + b"200"}

# SPDX-License-Identifier: MIT
"""Ten thousand connections, idle and busy."""

from __future__ import annotations

from random import Random

from smls import program
from tests.integration.fleet import THREE
from tests.load.clients import Client, many, side_by_side, upload
from tests.load.watch import Watch

CONNECTIONS = 10_000
OPEN = 4000
"""Left open at once, idle, with a request half sent, or after an answer."""


def test_ten_thousand_connections_come_and_go(calm: Watch) -> None:
    program.raise_file_limit()
    image = upload(THREE.read_bytes())
    head = b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"

    async def connect(number: int, random: Random) -> Client:
        client = await Client.to(calm.url)
        if number % 4 == 1:
            await client.send(head)
            assert (await client.reader.read(1000)).startswith(b"HTTP/1.1 200 ")
        elif number % 4 == 2:
            await client.send(image[: random.randint(1, len(image) - 1)])
        if number % 5 < 3:
            client.leave(reset=number % 2 == 0)
        return client

    async def storm(_: int, random: Random) -> None:
        clients = await side_by_side(connect, CONNECTIONS, 200, random.randrange(1000))
        kept = [client for client in clients if not client.writer.is_closing()]
        assert len(kept) == OPEN
        assert calm.held().descriptors >= OPEN
        for client in kept:
            client.leave(reset=random.random() < 0.5)

    with calm.neighbour():
        calm.leaks_nothing_by(lambda seed: many(storm, 1, 1, seed))

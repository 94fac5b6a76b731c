# SPDX-License-Identifier: MIT
"""Uploads that are cut in the middle."""

from __future__ import annotations

import asyncio
from random import Random

from tests.integration.fleet import THREE, noise
from tests.load.clients import Client, many, upload
from tests.load.watch import Watch
from tests.node.memory import form

UPLOADS = 1500
AT_ONCE = 100

PATH = "/classify?cut=yes"


def test_what_is_cut_is_answered_by_no_model_and_leaves_nothing(calm: Watch) -> None:
    small, large = THREE.read_bytes(), noise(800, 800)
    wholes = [
        *(upload(image, PATH) for image in (small, large)),
        *(posted(image) for image in (small, large)),
        *(chunked(image) for image in (small, large)),
    ]

    async def cut(number: int, random: Random) -> None:
        whole = wholes[number % len(wholes)]
        ends = len(whole), whole.index(b"\r\n\r\n") + 4
        place = random.choice([random.randrange(1, each) for each in (*ends, 200)])
        # The last bytes are where a parser might think that it has all.
        place = random.choice([place, len(whole) - random.randint(1, 20)])
        client = await Client.to(calm.url)
        await client.send(whole[:place])
        if number % 3 == 0:
            await asyncio.sleep(random.uniform(0, 0.05))
        elif number % 3 == 1:
            client.writer.write_eof()
            await client.received()
        client.leave(reset=random.random() < 0.5)

    with calm.neighbour():
        calm.leaks_nothing_by(lambda seed: many(cut, UPLOADS, AT_ONCE, seed))
    assert calm.posts("cut=yes") == {}


def posted(image: bytes) -> bytes:
    """A form with two images and a field."""
    content_type, body = form(image, image, top="3")
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: node\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def chunked(image: bytes) -> bytes:
    """An image in chunks."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: node\r\nContent-Type: image/jpeg\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    pieces = [image[begin : begin + 700] for begin in range(0, len(image), 700)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + body + b"0\r\n\r\n"

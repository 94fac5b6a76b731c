# SPDX-License-Identifier: MIT
"""The client on asyncio loops that run, and end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from smls import aio
from smls.errors import BadRequest, ClientClosed, DeadlineExceeded, NotAnImage
from smls.testing import FakeFleet, hang
from tests.client.fleet import FLOWERS

IMAGE = b"image of a daisy"


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with FakeFleet(FLOWERS, nodes=("a", "b")) as fleet:
        yield fleet


def test_several_loops_one_after_the_other(fleet: FakeFleet, tmp_path: Path) -> None:
    path = tmp_path / "daisy.jpg"
    path.write_bytes(IMAGE)

    async def program() -> set[str]:
        async with aio.Client(fleet.url) as client:
            assert {node.name for node in await client.nodes()} == {"a", "b"}
            with pytest.raises(NotAnImage):
                await client.classify(b"text")
            found = await asyncio.gather(*(client.classify(path) for _ in range(10)))
            return {each.node for each in found}

    for _ in range(3):
        assert asyncio.run(program()) == {"a", "b"}


def test_two_clients_on_one_loop(fleet: FakeFleet) -> None:
    async def program() -> None:
        async with aio.Client(fleet.url) as first:
            async with aio.Client(nodes=[fleet.nodes[1].address]) as second:
                found = await asyncio.gather(first.classify(IMAGE), second.classify(IMAGE))
                assert [each.model for each in found] == ["flowers"] * 2
            assert (await first.classify(IMAGE)).model == "flowers"

    asyncio.run(program())


def test_cancelling_a_task_cuts_its_request_off(fleet: FakeFleet) -> None:
    node = fleet.nodes[0]
    node.behaviour = hang

    async def program() -> None:
        async with aio.Client(nodes=[node.address]) as client:
            asked = node.next_request()
            task = asyncio.create_task(client.classify(IMAGE))
            await asyncio.to_thread(fleet.call, lambda: asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fleet.call, node.open_at_most, 0)

    asyncio.run(program())


def test_close_ends_calls_in_flight(fleet: FakeFleet) -> None:
    node = fleet.nodes[0]
    node.behaviour = hang

    async def program() -> None:
        client = aio.Client(nodes=[node.address])
        asked = node.next_request()
        task = asyncio.create_task(client.classify(IMAGE))
        await asyncio.to_thread(fleet.call, lambda: asked)
        await client.close()
        with pytest.raises(ClientClosed):
            await task
        with pytest.raises(ClientClosed):
            await client.classify(IMAGE)
        await client.close()

    asyncio.run(program())


def test_a_deadline(fleet: FakeFleet) -> None:
    fleet.nodes[0].behaviour = hang

    async def program() -> None:
        async with aio.Client(nodes=[fleet.nodes[0].address], timeout=0.05) as client:
            with pytest.raises(DeadlineExceeded):
                await client.classify(IMAGE)

    asyncio.run(program())


def test_a_client_belongs_to_one_loop(fleet: FakeFleet) -> None:
    client = aio.Client(fleet.url)
    asyncio.run(client.close())
    other = aio.Client(fleet.url)

    async def use() -> None:
        await other.classify(IMAGE)
        other._reactor.finish()  # type: ignore[union-attr]

    asyncio.run(use())
    with pytest.raises(ClientClosed, match="another event loop"):
        asyncio.run(use())
    with pytest.raises(BadRequest):
        aio.Client()


PROGRAM = """
import asyncio, sys, pathlib
from smls import aio

async def program(close):
    client = aio.Client(sys.argv[1])
    path = pathlib.Path(sys.argv[2])
    found = await asyncio.gather(*(client.classify(path) for _ in range(5)))
    assert len(found) == 5
    if close:
        await client.close()
        loop = asyncio.get_running_loop()
        # Nothing but the loop's own pipe is watched after close.
        assert len(loop._selector.get_map()) == 1, list(loop._selector.get_map().values())

for _ in range(3):
    asyncio.run(program(True))
if len(sys.argv) > 3:
    asyncio.run(program(False))
assert "twisted.internet.reactor" not in sys.modules
print("done")
"""


def run(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_is_left_open(fleet: FakeFleet, tmp_path: Path) -> None:
    path = tmp_path / "daisy.jpg"
    path.write_bytes(IMAGE)
    done = run(fleet.url, str(path), options=("-X", "dev", "-W", "error"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_interpreter_ends_without_close(fleet: FakeFleet, tmp_path: Path) -> None:
    path = tmp_path / "daisy.jpg"
    path.write_bytes(IMAGE)
    done = run(fleet.url, str(path), "leave it open")
    assert (done.returncode, done.stdout) == (0, "done\n")

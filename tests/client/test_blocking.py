# SPDX-License-Identifier: MIT
"""The blocking twin: threads, forks, interrupts and ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from smls.blocking import BlockingClient
from smls.errors import BadRequest, ClientClosed, DeadlineExceeded, ForkedClient
from smls.testing import FakeFleet, hang
from tests.client.fleet import FLOWERS

IMAGE = b"image of a daisy"


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with FakeFleet(FLOWERS, nodes=("a", "b")) as fleet:
        yield fleet


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "smls client"]


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_it_classifies(fleet: FakeFleet, tmp_path: Path) -> None:
    path = tmp_path / "daisy.jpg"
    path.write_bytes(IMAGE)
    with BlockingClient(fleet.url) as client:
        assert {client.classify(image).node for image in (IMAGE, path)} == {"a", "b"}
        assert client.classify(str(path), model="flowers", top=1).predictions[0].label == "daisy"
        assert {node.name for node in client.nodes("flowers")} == {"a", "b"}
        with path.open("rb") as file:
            assert client.classify(file).model == "flowers"
        with pytest.raises(FileNotFoundError):
            client.classify(tmp_path / "none.jpg")


def test_it_starts_nothing_before_the_first_call() -> None:
    client = BlockingClient("http://127.0.0.1:1")
    assert threads() == []
    client.close()
    with pytest.raises(BadRequest):
        BlockingClient("https://registry")


def test_from_many_threads(fleet: FakeFleet) -> None:
    client = BlockingClient(fleet.url, balancer="round-robin")
    with client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.classify(IMAGE).node, range(80)))
        assert sorted(found) == ["a"] * 40 + ["b"] * 40
        assert len(threads()) == 1


def test_beside_a_running_asyncio_loop(fleet: FakeFleet) -> None:
    async def program() -> str:
        with BlockingClient(fleet.url) as client:
            return client.classify(IMAGE).model

    assert asyncio.run(program()) == "flowers"


def test_close_leaves_no_thread_and_no_file(fleet: FakeFleet) -> None:
    for _ in range(2):
        with BlockingClient(fleet.url) as client:
            client.classify(IMAGE)
        fleet.call(fleet.nodes[0].open_at_most, 0)
        fleet.call(fleet.nodes[1].open_at_most, 0)
        fleet.call(fleet.registry.open_at_most, 0)
        gc.collect()
        before, now = locals().get("now"), files()
    assert threads() == []
    assert now == before
    client.close()
    with pytest.raises(ClientClosed):
        client.classify(IMAGE)


def test_a_forgotten_client_ends_its_thread(fleet: FakeFleet) -> None:
    client = BlockingClient(fleet.url)
    client.classify(IMAGE)
    del client
    gc.collect()
    assert threads() == []


def test_close_ends_a_call_in_another_thread(fleet: FakeFleet) -> None:
    for node in fleet.nodes:
        node.behaviour = hang
    client = BlockingClient(nodes=[fleet.nodes[0].address])
    asked = fleet.nodes[0].next_request()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.classify, IMAGE)
        fleet.call(lambda: asked)
        client.close()
        with pytest.raises(ClientClosed):
            call.result()


def test_a_submitted_call_can_be_cancelled(fleet: FakeFleet) -> None:
    node = fleet.nodes[0]
    node.behaviour = hang
    with BlockingClient(nodes=[node.address]) as client:
        asked = node.next_request()
        call = client.submit(IMAGE)
        fleet.call(lambda: asked)
        assert call.cancel()
        fleet.call(node.open_at_most, 0)
        with pytest.raises(CancelledError):
            call.result()
        node.behaviour = node.answer
        assert client.submit(IMAGE).result().node == "a"


def test_a_deadline(fleet: FakeFleet) -> None:
    fleet.nodes[0].behaviour = hang
    with (
        BlockingClient(nodes=[fleet.nodes[0].address]) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.classify(IMAGE, timeout=0.05)


def test_in_the_child_of_a_fork_it_raises(fleet: FakeFleet) -> None:
    for used in (True, False):
        client = BlockingClient(fleet.url)
        if used:
            client.classify(IMAGE)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                client.classify(IMAGE)
            except ForkedClient:
                client.close()
                with BlockingClient(fleet.url) as fresh:
                    status = 0 if fresh.classify(IMAGE).model == "flowers" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.classify(IMAGE).model == "flowers"
        client.close()


PROGRAM = """
import sys
import smls

client = smls.BlockingClient(sys.argv[1])
print(client.classify(b"image").model)
assert "twisted.internet.reactor" not in sys.modules
"""


def test_an_interpreter_ends_without_close(fleet: FakeFleet) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, f"http://localhost:{fleet.registry.port}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "flowers\n", "")


def test_an_interrupt_ends_the_call(fleet: FakeFleet) -> None:
    node = fleet.nodes[0]
    node.behaviour = hang
    # Trial leaves its reactor's handler behind.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with BlockingClient(nodes=[node.address]) as client:
        asked = node.next_request()

        def interrupt() -> None:
            fleet.call(lambda: asked)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.classify(IMAGE)
        thread.join()
        fleet.call(node.open_at_most, 0)
    signal.signal(signal.SIGINT, before)

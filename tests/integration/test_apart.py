# SPDX-License-Identifier: MIT
"""A node whose models want different operator threads: each pool in a process that has it. One
whose model is quicker than HTTP: each in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import THREE, UNMEASURED, ask, best, classify, records
from tests.integration.graphs import write_constant
from tests.processes import LOCAL, Running, running, until

THREADS = 33
"""More than a node has for all its other work."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two models that agree, and one that does not; they end with the last test."""
    folder = tmp_path_factory.mktemp("graphs")
    other = ("--operator-threads", str(THREADS), "--runs", "2", "--max-batch-size", "3")
    graphs = (
        *write_constant(folder, "colours", [3, 1, 2]),
        *(*write_constant(folder, "shapes", [1, 2]), *other),
        *(*write_constant(folder, "sizes", [2, 1]), *other),
    )
    with running("smls-node", *LOCAL, *UNMEASURED, "--log-format", "json", *graphs) as node:
        yield node


def shown(node: Running, name: str) -> dict[str, Any]:
    """What ``GET /`` says of a model."""
    (model,) = [each for each in ask(node.url).json["models"] if each["name"] == name]
    return dict(model)


def apart(node: Running) -> int:
    """The id of the process of the two, once there is one."""
    process = until(
        lambda: (
            shown(node, "sizes")["process"].startswith("process")
            and shown(node, "sizes")["process"]
        )
    )
    return int(process.split()[1])


def tasks(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def is_running(node: Running, name: str) -> bool:
    load = shown(node, name)["load"]
    return bool(load["in_flight"] > 0 and load["queue"] == 0)


def test_each_model_has_the_operator_threads_that_it_was_told(node: Running) -> None:
    image = THREE.read_bytes()
    for name, label in (("colours", "colours-0"), ("shapes", "shapes-1"), ("sizes", "sizes-0")):
        answer = classify(node.url, image, model=name)
        assert answer.status == 200
        assert best(answer.json).startswith(label)
    assert shown(node, "colours")["process"] == "the node's"
    why = f"process {apart(node)} (its pool of operator threads has {THREADS}, the node's own 1)"
    for name in ("shapes", "sizes"):
        assert shown(node, name)["process"] == why
        assert any(
            f"model {name} version 1: 2 runs at once of {THREADS} operator threads"
            in line["message"]
            and line["message"].endswith(f", in {why}")
            for line in records(node.log)
        )
    assert tasks(apart(node)) > THREADS > tasks(node.process.pid)
    assert why in unescape(ask(node.url, Accept="text/html").body.decode())


def test_the_process_has_none_of_the_nodes_sockets(node: Running) -> None:
    def sockets(process: int) -> set[str]:
        links = [os.readlink(each) for each in Path(f"/proc/{process}/fd").iterdir()]
        return {link for link in links if link.startswith("socket:")}

    assert sockets(node.process.pid)
    assert not sockets(node.process.pid) & sockets(apart(node))


def test_a_process_that_is_killed_fails_its_batch_and_is_started_again(node: Running) -> None:
    image, before = THREE.read_bytes(), apart(node)
    with ThreadPoolExecutor(1) as pool:
        os.kill(before, signal.SIGSTOP)
        asked = pool.submit(classify, node.url, image, model="sizes")
        until(lambda: is_running(node, "sizes"))
        os.kill(before, signal.SIGKILL)
        failed = asked.result()
    assert (failed.status, failed.code) == (500, "internal")
    assert "was killed by SIGKILL" in failed.json["error"]["message"]
    # TensorFlow takes seconds to be imported.
    meanwhile = classify(node.url, image, model="shapes")
    assert (meanwhile.status, meanwhile.code) == (503, "overloaded")
    assert "is started again" in meanwhile.json["error"]["message"]
    assert meanwhile.headers["Retry-After"]
    assert shown(node, "shapes")["process"].startswith(f"no process, process {before} was killed")
    assert shown(node, "shapes")["state"] == "LOADING"
    assert best(classify(node.url, image, model="colours").json) == "colours-0"
    assert apart(node) != before
    for name in ("shapes", "sizes"):
        assert classify(node.url, image, model=name).status == 200
    lines = [
        line["message"] for line in records(node.log) if line["namespace"].endswith("apart.Apart")
    ]
    assert len(lines) == 2
    assert f"process {before} of its own" in lines[0]
    assert lines[1] == f"process {apart(node)} has taken its place"


def test_a_node_that_drains_answers_what_its_processes_have(node: Running) -> None:
    child = apart(node)
    with ThreadPoolExecutor(1) as pool:
        os.kill(child, signal.SIGSTOP)
        asked = pool.submit(classify, node.url, THREE.read_bytes(), model="sizes")
        until(lambda: is_running(node, "sizes"))
        # As whoever stops all processes of a service at once.
        for process in (child, node.process.pid):
            os.kill(process, signal.SIGTERM)
        until(lambda: "draining" in node.log)
        os.kill(child, signal.SIGCONT)
        assert asked.result().status == 200
        status, _, log = node.end()
    assert status == 0
    assert "Traceback" not in log
    assert not Path(f"/proc/{child}").exists()


def test_a_quick_model_has_another_process_than_http(tmp_path: Path) -> None:
    # Measured here: the embedded digits take some 30 microseconds each.
    with running("smls-node", *LOCAL, "--findings", tmp_path) as node:
        image = THREE.read_bytes()

        def process() -> int:
            told = until(
                lambda: (
                    shown(node, "digits")["process"].startswith("process")
                    and shown(node, "digits")["process"]
                )
            )
            assert told.endswith("(quick: HTTP has the node's own to itself)")
            return int(told.split()[1])

        assert best(classify(node.url, image).json) == "3"
        before = process()
        libraries = [Path(f"/proc/{each}/maps").read_text() for each in (node.process.pid, before)]
        assert ["libtensorflow" in each for each in libraries] == [False, True]
        os.kill(before, signal.SIGKILL)
        until(lambda: shown(node, "digits")["process"].startswith("no process"))
        assert classify(node.url, image).status == 503
        assert process() != before
        assert best(classify(node.url, image).json) == "3"
        broken = classify(node.url, image[:-300])
        assert (broken.status, broken.code) == (422, "broken_image")

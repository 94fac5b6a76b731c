# SPDX-License-Identifier: MIT
"""``smls-node --replicas``: several processes of one node, as real programs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest

import smls
from smls_node import embedded
from smls_node.handover import BEAT_SECONDS
from smls_node.replicas import SILENT_BEATS
from tests.integration.fleet import (
    THREE,
    Fleet,
    Load,
    ask,
    at_port,
    begin_upload,
    best,
    classify,
    connect,
    end_upload,
    free_port,
    listed,
    names_at,
    port_of,
    records,
    reply,
)
from tests.integration.test_orphans import descendants, runs
from tests.processes import LOCAL, Running, run, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs what Linux has")

TWO = ("--replicas", "2")

NAMES = {"box-1", "box-2"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 of the digits, proven in OpenVINO: a start needs no TensorFlow."""
    version = tmp_path_factory.mktemp("models") / "digits" / "1"
    version.mkdir(parents=True)
    shutil.copy(embedded.GRAPH, version / "model.pb")
    shutil.copy(embedded.LABELS, version / "labels.txt")
    proven = run("smls-node", "accelerate", version / "model.pb", *TWO)
    assert proven.returncode == 0, proven.stderr
    return version


@pytest.fixture(scope="module")
def two(digits: Path) -> tuple[str, ...]:
    """The options of two replicas that serve the digits."""
    graph = ("--graph", str(digits / "model.pb"), "--labels", str(digits / "labels.txt"))
    return (*TWO, "--accelerate", "openvino", *graph)


@pytest.fixture(scope="module")
def pair_of_replicas(two: tuple[str, ...]) -> Iterator[Fleet]:
    """Two replicas at a registry, and as the only node of the fleet their supervisor."""
    with ExitStack() as stack:
        registry = stack.enter_context(running("smls-registry", *LOCAL))
        named = ("--node-name", "box", "--registry", registry.url, "--log-format", "json")
        node = stack.enter_context(running("smls-node", *LOCAL, *two, *named))
        until(lambda: names_at(registry) == NAMES)
        yield Fleet(registry, (node,))


@pytest.fixture
def both(pair_of_replicas: Fleet) -> Iterator[Fleet]:
    """The replicas, both of them ready before and after the test."""
    yield pair_of_replicas
    until(lambda: names_at(pair_of_replicas.registry) == NAMES)


def pids(supervisor: Running) -> dict[str, int]:
    """The process of each replica by the name that it has at the registry."""
    found = {}
    for pid in descendants(supervisor.process.pid):
        told = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"smls_node.replica" in told:
            found[f"box-{told[told.index(b'smls_node.replica') + 1].decode()}"] = pid
    return found


def asked(connection: HTTPConnection) -> str:
    """The name of the node that answers on a connection which stays open."""
    connection.request("GET", "/", headers={"Accept": "application/json"})
    return str(reply(connection.getresponse()).json["node"])


def test_each_replica_is_announced_as_a_node_with_a_port_of_its_own(both: Fleet) -> None:
    (node,) = both.nodes
    nodes = {each["name"]: each for each in listed(both.registry)}
    ports = {name: int(each["address"].rpartition(":")[2]) for name, each in nodes.items()}
    assert len({*ports.values(), port_of(node.url)}) == 3
    assert len({each["id"] for each in nodes.values()}) == 2
    for name, port in ports.items():
        assert classify(f"http://127.0.0.1:{port}/", THREE.read_bytes()).json["node"] == name
    told = [each for each in records(node.log) if "port" in each and "is ready" in each["message"]]
    assert {each["port"] for each in told} == set(ports.values())
    assert {each.get("process") for each in records(node.log)} == {None, "replica 1", "replica 2"}


@pytest.mark.parametrize("count", [2, 8, 50])
def test_the_shared_port_gives_each_replica_as_many_connections(both: Fleet, count: int) -> None:
    (node,) = both.nodes
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(node.url))) for _ in range(count)]
        for connection in connections:
            connection.connect()
        answered = [asked(connection) for connection in connections]
        assert Counter(answered) == dict.fromkeys(NAMES, count // 2)
        # Each stays with the one that it was given to.
        assert [asked(connection) for connection in connections] == answered
    assert best(classify(node.url, THREE.read_bytes()).json) == "3"


def test_a_killed_replica_costs_the_client_no_call_and_comes_back(both: Fleet) -> None:
    (node,) = both.nodes
    before = pids(node)
    assert set(before) == NAMES
    with smls.BlockingClient(both.registry.url) as client:
        load = Load(client, callers=4)
        with load.running():
            load.answered(10, *NAMES)
            os.kill(before["box-1"], signal.SIGKILL)
            load.answered(10, "box-2")
            until(lambda: pids(node).get("box-1") not in (None, before["box-1"]))
            load.answered(10, *NAMES)
    assert load.failures == []
    told = [each for each in records(node.log) if each["level"] == "error"][-1]
    assert told["message"] == (
        "replica 1 was killed by SIGKILL; it is started again in 0.1 s, and 1 of 2 are ready"
    )


def test_callers_of_a_dead_replica_are_told_at_once_and_the_port_goes_on(both: Fleet) -> None:
    (node,) = both.nodes
    uploads = [begin_upload(node), begin_upload(node)]
    # Both have been given away when something that came later is answered by each.
    assert {ask(node.url).json["node"] for _ in NAMES} == NAMES
    os.kill(pids(node)["box-2"], signal.SIGKILL)
    answers: list[str] = []
    for upload in uploads:
        with closing(upload):
            try:
                answers.append(best(end_upload(upload).json))
            except (ConnectionError, RemoteDisconnected):
                answers.append("closed")
    assert sorted(answers) == ["3", "closed"]
    until(lambda: names_at(both.registry) == {"box-1"})
    for _ in range(5):
        assert ask(f"{node.url}readyz").status == 200
        assert classify(node.url, THREE.read_bytes()).json["node"] == "box-1"


def test_where_no_replica_is_left_the_port_says_so_until_one_is_back(both: Fleet) -> None:
    (node,) = both.nodes
    with closing(connect(node.url)) as stays:
        for pid in pids(node).values():
            os.kill(pid, signal.SIGKILL)
        until(lambda: readiness(node) == 503)
        stays.connect()
        stays.request("GET", "/readyz")
        assert reply(stays.getresponse()).status == 503
        assert ask(f"{node.url}healthz").status == 200
        refused = classify(node.url, THREE.read_bytes())
        assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
        assert "none of the node's replicas is ready" in refused.json["error"]["message"]
        assert "Retry-After" in refused.headers
        until(lambda: readiness(node) == 200)
        # Who has stayed would ask the supervisor for ever: http.client opens another connection.
        until(lambda: is_answered_by_a_replica(stays))
    assert best(classify(node.url, THREE.read_bytes()).json) == "3"


def told_of_replicas(node: Running) -> list[str]:
    return [each["message"] for each in records(node.log) if each["message"].startswith("replica")]


def test_a_replica_that_is_stopped_gets_no_connection_until_it_goes_on(both: Fleet) -> None:
    (node,) = both.nodes
    frozen = pids(node)["box-1"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        hangs = f"replica 1, process {frozen}, hangs or is stopped: it has said nothing for 2 s"
        until(lambda: any(each.startswith(hangs) for each in told_of_replicas(node)))
        for _ in range(6):
            assert ask(f"{node.url}readyz").status == 200
            assert classify(node.url, THREE.read_bytes()).json["node"] == "box-2"
    finally:
        os.kill(frozen, signal.SIGCONT)
    until(lambda: told_of_replicas(node)[-1] == "replica 1 answers again, and is given connections")
    assert {ask(node.url).json["node"] for _ in NAMES} == NAMES
    assert pids(node)["box-1"] == frozen


def test_where_all_replicas_are_stopped_the_port_is_not_ready(both: Fleet) -> None:
    (node,) = both.nodes
    stopped = pids(node)
    for pid in stopped.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: told_of_replicas(node)[-1].endswith("0 of 2 are ready"))
        assert ask(f"{node.url}readyz").status == 503
        refused = classify(node.url, THREE.read_bytes())
        assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
    finally:
        for pid in stopped.values():
            os.kill(pid, signal.SIGCONT)
    until(lambda: readiness(node) == 200)
    assert pids(node) == stopped


def test_a_supervisor_that_was_stopped_finds_nobody_silent(both: Fleet) -> None:
    (node,) = both.nodes
    told = told_of_replicas(node)
    node.process.send_signal(signal.SIGSTOP)
    try:
        # Long enough for each of them to say more often that it is there than may be missed.
        waited = time.monotonic() + (SILENT_BEATS + 2) * BEAT_SECONDS
        until(lambda: time.monotonic() > waited)
    finally:
        node.process.send_signal(signal.SIGCONT)
    assert {ask(node.url).json["node"] for _ in NAMES} == NAMES
    assert told_of_replicas(node) == told


def answered_by(port: int) -> int:
    """The requests for models that the replica with this port of its own has answered."""
    text = ask(f"http://127.0.0.1:{port}/metrics").body.decode()
    return sum(
        int(float(each.split()[-1]))
        for each in text.splitlines()
        if each.startswith("smls_request_seconds_count")
    )


def test_mlservers_parallel_workers_are_replicas_which_share_the_port_of_grpc(
    digits: Path, tmp_path: Path
) -> None:
    grpc = pytest.importorskip("grpc")
    from tests.integration.test_grpc import black
    from tests.node.grpc_memory import OIP, stub

    shutil.copytree(digits.parent, tmp_path / "digits")
    (tmp_path / "settings.json").write_text('{"parallel_workers": 2, "debug": false}')
    shared, own = free_port(), free_port()
    ports = ("--replica-ports", own, "--grpc-port", shared)
    served = ("--models", tmp_path, "--accelerate", "openvino", "--node-name", "box")
    with running("smls-node", *LOCAL, *ports, *served) as node:
        assert "starting 2 replicas" in node.log
        assert {ask(node.url).json["node"] for _ in NAMES} == NAMES
        # A channel is one connection, which stays with its replica; the system spreads them.
        for _ in range(64):
            with grpc.insecure_channel(
                f"127.0.0.1:{shared}", [("grpc.use_local_subchannel_pool", 1)]
            ) as channel:
                before = [answered_by(own), answered_by(own + 1)]
                for _ in range(3):
                    assert stub(channel, OIP, "ModelInfer")(black()).result().outputs
                after = [answered_by(own), answered_by(own + 1)]
            grown = [new - old for new, old in zip(after, before, strict=True)]
            assert sorted(grown) == [0, 3]
            if all(after):
                break
        assert all(after)


def readiness(node: Running) -> int:
    """The status of ``/readyz``, or 0 where the replica that was asked has just died."""
    try:
        return ask(f"{node.url}readyz").status
    except ConnectionError:
        return 0


def is_answered_by_a_replica(connection: HTTPConnection) -> bool:
    """Whether a replica answers on the connection, which is opened again where it was closed."""
    try:
        connection.request("GET", "/readyz")
        return reply(connection.getresponse()).status == 200
    except ConnectionError:
        connection.close()
        return False


def test_signals_drain_all_replicas_and_a_second_one_ends_them_at_once(
    two: tuple[str, ...],
) -> None:
    port = free_port()
    own = ("--replica-ports", port + 1)
    with running("smls-node", *at_port(port), *own, *two) as node:
        assert {ask(f"http://127.0.0.1:{port + number}/readyz").status for number in (1, 2)} == {
            200
        }
        uploads = [begin_upload(node), begin_upload(node)]
        assert len({ask(node.url).json["node"] for _ in uploads}) == 2
        left = descendants(node.process.pid)
        # As systemd does by default: everybody is sent the signal, and the replicas wait for ours.
        for pid in (node.process.pid, *left):
            os.kill(pid, signal.SIGTERM)
        until(lambda: ask(f"{node.url}readyz").status == 503)
        assert "draining" in classify(node.url, THREE.read_bytes()).json["error"]["message"]
        for upload in uploads:
            with closing(upload):
                assert end_upload(upload).status == 200
        status, printed, log = node.end()
    assert (status, printed) == (0, "")
    assert log.count("ended with status 0") == 2
    assert re.search(r"(?m)^\[replica 2\] .* draining 1 requests$", log)
    assert not any(map(runs, left))

    with running("smls-node", *LOCAL, *two) as node:
        left = descendants(node.process.pid)
        with closing(begin_upload(node)):
            ask(node.url)
            node.terminate()
            until(lambda: ask(f"{node.url}readyz").status == 503)
            node.terminate()
            assert node.end()[0] == 1
        until(lambda: not any(map(runs, left)))


def test_under_twist_with_a_folder_of_models_and_killed(digits: Path) -> None:
    options = ("--models", digits.parent.parent, "--accelerate", "openvino")
    with running("twist", "smls-node", *LOCAL, *TWO, *options) as node:
        for _ in range(2):
            assert best(classify(node.url, THREE.read_bytes()).json) == "3"
        left = descendants(node.process.pid)
        assert len(left) >= 2
        node.process.kill()
        until(lambda: not any(map(runs, left)))


def test_what_cannot_be_served_ends_the_program_as_without_replicas(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("smls-node", *at_port(port), *TWO)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"smls-node: cannot listen on port {port} of 127.0.0.1: ")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    absent = ("--graph", tmp_path / "absent.pb", "--labels", tmp_path / "labels.txt")
    ended = run("smls-node", *LOCAL, *TWO, *absent)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "absent.pb: there is no such file" in ended.stderr
    assert "Traceback" not in ended.stderr

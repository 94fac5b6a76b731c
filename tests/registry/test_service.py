# SPDX-License-Identifier: MIT
import json
import os
import re
import shutil
import subprocess
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
import treq
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from smls.address import Advertise
from smls.lease import Announcer
from smls.wire import NodeRecord
from smls_registry.app import RegistryApp
from smls_registry.leases import LeaseTable
from smls_registry.roster import Roster
from smls_registry.service import RegistryService
from smls_registry.stores.memory import MemoryStore
from tests.processes import REGISTRY, TWIST, run, running
from tests.sockets import relay, target

LOCAL = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")


def call(method, url, value=None):
    body = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method)) as answer:
        return answer.read()


def test_it_tells_where_it_is_ready_and_ends_on_sigterm():
    with running(REGISTRY, *LOCAL) as registry:
        assert json.loads(call("GET", f"{registry.url}healthz")) == {"status": "ok"}
        status, _, log = registry.stop()
    assert status == 0
    assert (
        f"curl -L -H 'Expect: 100-continue' -F data=@image.jpg {registry.url}classify"
        in registry.hint
    )
    assert "Traceback" not in log


def test_twist_runs_it_too():
    with running(TWIST, "smls-registry", *LOCAL) as registry:
        assert json.loads(call("GET", f"{registry.url}v1/nodes"))["nodes"] == []


def test_all_addresses_are_listened_on_by_default():
    with running(REGISTRY, "--port", "0", "--no-mdns") as registry:
        assert registry.url.startswith("http://127.0.0.1:")
        assert call("GET", f"{registry.url}healthz")


def test_a_node_lives_as_long_as_its_ttl():
    with running(REGISTRY, *LOCAL, "--ttl", "7200", "--log-format", "json") as registry:
        done = json.loads(call("PUT", f"{registry.url}v1/nodes/a", {"address": "h:1"}))
        assert done["ttl_seconds"] == 7200
        assert call("GET", f"{registry.url}next") == b"h:1\n"
        call("DELETE", f"{registry.url}v1/nodes/a")
        _, _, log = registry.stop()
    told = [json.loads(line) for line in log.splitlines()]
    assert [line["what"] for line in told if "what" in line] == ["announced", "withdrawn"]


def test_a_taken_port_is_told_in_a_line():
    with running(REGISTRY, *LOCAL) as first:
        port = str(urlsplit(first.url).port)
        second = run(REGISTRY, "--host", "127.0.0.1", "--port", port, "--no-mdns")
    assert second.returncode == 1
    assert f"port {port}" in second.stderr
    assert "--port" in second.stderr
    assert "Traceback" not in second.stderr
    assert second.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nothing"], "--nothing"),
        (["--port", "x"], "--port"),
        (["--port", "65536"], "--port"),
        (["--ttl", "0"], "--ttl"),
        (["--log-format", "xml"], "--log-format"),
        (["extra", "--port", "0"], "extra"),
    ],
)
def test_a_wrong_command_line_is_status_2(arguments, named):
    ended = run(REGISTRY, *arguments)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "--help" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_teaches_by_example():
    ended = run(REGISTRY, "--help")
    assert ended.returncode == 0
    assert "    curl http://127.0.0.1:12480/v1/nodes\n" in ended.stdout


def test_version():
    try:
        expected = version("simple-ml-serving")
    except PackageNotFoundError:
        pytest.skip("the distribution is not installed")
    ended = run(REGISTRY, "--version")
    assert ended.returncode == 0
    assert expected in ended.stdout


def test_without_its_extra_it_names_the_extra():
    hidden = "import importlib.util, smls.program\nsmls.program.find_spec = lambda name: None\n"
    for arguments, status in (([], 2), (["--help"], 0)):
        ended = run(hidden + REGISTRY, *arguments)
        assert ended.returncode == status
    ended = run(hidden + REGISTRY)
    assert "simple-ml-serving[registry]" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "path", ["", "classify", "classify?model=flowers&top=3", "v1/models/flowers:predict"]
)
def test_an_image_sent_with_curl_never_passes_through(tmp_path, path):
    image = tmp_path / "img.jpg"
    image.write_bytes(os.urandom(1_000_000))
    with running(REGISTRY, *LOCAL) as registry, target() as node:
        record = {"address": node.address, "models": [{"name": "flowers"}]}
        call("PUT", f"{registry.url}v1/nodes/a", record)
        with relay(urlsplit(registry.url).port) as between:
            curl = subprocess.run(
                [
                    "curl",
                    "-sS",
                    "-L",
                    "-H",
                    "Expect: 100-continue",
                    "-F",
                    f"data=@{image}",
                    f"http://127.0.0.1:{between.port}/{path}",
                ],
                capture_output=True,
                check=True,
                timeout=60,
            )
    assert curl.stdout == b"tulip"
    head, end, image_bytes = bytes(between.sent).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /%s HTTP/1.1" % path.encode())
    assert end
    assert image_bytes == b""
    ((method, received_path, body),) = node.received
    assert (method, received_path) == ("POST", f"/{path}")
    assert image.read_bytes() in body


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_calls_in_the_documentation_work(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "registry.md").read_text()
    calls = re.findall(r"^curl (?:.*\\\n)*.*$", text, re.MULTILINE)
    assert len(calls) >= 7
    (tmp_path / "image.jpg").write_bytes(b"image")
    with running(REGISTRY, *LOCAL) as registry, target() as node:
        for number, documented in enumerate(calls):
            here = documented.replace("http://127.0.0.1:12480/", registry.url)
            here = here.replace("127.0.0.1:8501", node.address)
            if "DELETE" in here:
                continue
            ended = subprocess.run(
                here.replace("curl", "curl -sSf", 1),
                shell=True,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (number, ended.returncode, ended.stderr) == (number, 0, "")
            assert ended.stdout
    assert len(node.received) == 1


class ServiceTests(TestCase):
    """The service in this process, on real sockets."""

    timeout = 30

    def start(self):
        store = MemoryStore(LeaseTable(Roster("history")), reactor.seconds)
        app = RegistryApp(store, reactor)
        service = RegistryService(reactor, app, port=0, host="127.0.0.1", mdns=False)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def event(self, what):
        happened = Deferred()

        def observe(event):
            if event.get("what") == what:
                globalLogPublisher.removeObserver(observe)
                happened.callback(event)

        globalLogPublisher.addObserver(observe)
        return happened

    async def test_an_announcer_announces_and_withdraws(self):
        service = self.start()
        http = treq.client.HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, False)))
        announcer = Announcer(
            reactor,
            http,
            [service.url],
            lambda address: NodeRecord("a", address),
            Advertise(8501, "192.0.2.9"),
            Random(7),
        )
        announced, withdrawn = self.event("announced"), self.event("withdrawn")
        announcer.start()
        assert (await announced)["address"] == "192.0.2.9:8501"
        await announcer.withdraw()
        assert (await withdrawn)["node_id"] == "a"

    async def test_stopping_closes_port_and_connections(self):
        service = self.start()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", urlsplit(service.url).port)
        idle, halfway = Waiting(), Waiting()
        for client in (idle, halfway):
            await connectProtocol(endpoint, client)
            client.transport.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            await client.answered
        halfway.transport.write(b"PUT /v1/nodes/a HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        await service.stopService()
        await idle.lost
        await halfway.lost
        again = connectProtocol(endpoint, Waiting())
        await self.assertFailure(again, ConnectionRefusedError, Exception)


class Waiting(Protocol):
    def __init__(self):
        self.answered, self.lost = Deferred(), Deferred()

    def dataReceived(self, data):
        self.answered.callback(data)

    def connectionLost(self, reason):
        self.lost.callback(None)


class SweepTests(SynchronousTestCase):
    def test_a_sweep_that_fails_is_logged_and_the_next_is_tried(self):
        clock = MemoryReactorClock()
        clock.callWhenRunning = lambda *args: None
        sweeps = []

        store = MemoryStore(LeaseTable(Roster("history")), clock.seconds)

        def broken():
            sweeps.append(clock.seconds())
            raise RuntimeError("broken")

        store.sweep = broken
        app = RegistryApp(store, clock)
        service = RegistryService(clock, app, port=0, host="127.0.0.1")
        clock.listenTCP = lambda *args, **kwargs: MemoryPort()
        service.startService()
        clock.pump([1, 1, 1])
        assert len(sweeps) == 3
        assert len(self.flushLoggedErrors(RuntimeError)) == 3
        self.successResultOf(service.stopService())
        clock.pump([1, 1])
        assert len(sweeps) == 3


class MemoryPort:
    def getHost(self):
        return IPv4Address("TCP", "127.0.0.1", 12480)

    def stopListening(self):
        return None

# SPDX-License-Identifier: MIT
"""What is etcd's own: where it is, who may speak to it, and the registry program before it."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from smls.errors import Unavailable
from smls.testing import FakeServer
from smls_registry.stores.gateway import Cluster, Gateway, Refused, WatchEnded, encoded
from smls_registry.stores.places import ClientTLS, EtcdPlace, store_place
from tests.client.fleet import ClockedReactor
from tests.etcd import IS_INSTALLED, NOT_INSTALLED, Etcd
from tests.processes import REGISTRY, run, running, until

LOCAL = ("--host", "127.0.0.1", "--port", "0", "--no-mdns")

needs_etcd = pytest.mark.skipif(not IS_INSTALLED, reason=NOT_INSTALLED)


@pytest.fixture(scope="module")
def etcd():
    server = Etcd()
    server.start()
    yield server
    server.close()


def call(method, url, value=None):
    body = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method)) as answer:
        return json.loads(answer.read())


def ids(registry):
    try:
        return [held["id"] for held in call("GET", f"{registry.url}v1/nodes")["nodes"]]
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("memory", None),
        ("etcd://one", EtcdPlace(("http://one:2379",))),
        (
            "etcd://one:1,[::1]:2,127.0.0.1/",
            EtcdPlace(("http://one:1", "http://[::1]:2", "http://127.0.0.1:2379")),
        ),
        ("etcd://one/a/b", EtcdPlace(("http://one:2379",), prefix="/a/b")),
        ("etcds://me@one/", EtcdPlace(("https://one:2379",), "me")),
    ],
)
def test_places(text, place):
    assert store_place(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Memory",
        "etcd:",
        "etcd://",
        "http://one",
        "etcd://one:0",
        "etcd://one,,two",
        "etcd://me:secret@one",
        "etcd://one?x=1",
        "etcd://one//a",
        "etcd://a b",
    ],
)
def test_what_is_no_place(text):
    with pytest.raises(ValueError, match="--store") as refused:
        store_place(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--store", "redis://one"], "--store"),
        (["--store", "etcd://me@one"], "SMLS_STORE_PASSWORD"),
        (["--store", "etcd://me@one", "--store-password-file", "/no/file"], "password-file"),
        (["--store-password-file", "/no/file"], "password-file"),
        (["--store", "etcd://one", "--store-ca", "x"], "--store-ca"),
        (["--store", "etcds://one", "--store-ca", "/no/file"], "--store-ca"),
        (["--store", "etcds://one", "--store-ca", __file__], "--store-ca"),
        (["--store", "etcds://one", "--store-cert", __file__], "--store-key"),
        (
            ["--store", "etcds://one", "--store-cert", __file__, "--store-key", __file__],
            "--store-cert",
        ),
    ],
)
def test_a_wrong_command_line_is_status_2(arguments, named):
    ended = run(REGISTRY, *arguments)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_password_is_never_shown():
    assert "secret" not in repr(Cluster(("http://one:1",), "me", "secret"))


@needs_etcd
def test_two_registries_are_one_and_outlive_each_other(etcd):
    store = ("--store", f"etcd://127.0.0.1:{etcd.port}/outlive")
    with running(REGISTRY, *LOCAL, *store) as first, running(REGISTRY, *LOCAL, *store) as second:
        until(lambda: ids(first) == ids(second) == [])
        done = call("PUT", f"{first.url}v1/nodes/a", {"address": "h:1"})
        assert (done["id"], done["ttl_seconds"]) == ("a", 10.0)
        until(lambda: ids(second) == ["a"])
        held = urllib.request.urlopen(f"{second.url}v1/nodes/a/lease")
        first.process.kill()
        first.process.wait()
        assert ids(second) == ["a"]
        held.close()
        until(lambda: ids(second) == [])
        status, _, log = second.stop()
    assert status == 0
    assert "Traceback" not in log


@needs_etcd
def test_a_registry_that_stops_lets_no_node_go(etcd):
    store = ("--store", f"etcd://127.0.0.1:{etcd.port}/stops")
    with running(REGISTRY, *LOCAL, *store) as first, running(REGISTRY, *LOCAL, *store) as second:
        until(lambda: ids(first) == ids(second) == [])
        call("PUT", f"{first.url}v1/nodes/a", {"address": "h:1"})
        with urllib.request.urlopen(f"{first.url}v1/nodes/a/lease"):
            first.stop()
        until(lambda: ids(second) == ["a"])
        second.stop()


def test_a_registry_before_no_etcd_says_so():
    record = {"address": "h:1"}
    with running(REGISTRY, *LOCAL, "--store", "etcd://127.0.0.1:9") as registry:
        for method, path in (("GET", "v1/nodes"), ("GET", "v1/watch"), ("PUT", "v1/nodes/a")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                call(method, f"{registry.url}{path}", record if method == "PUT" else None)
            assert refused.value.code == 503
            assert int(refused.value.headers["Retry-After"]) >= 1
            assert json.loads(refused.value.read())["error"]["code"] == "unavailable"
        assert call("GET", f"{registry.url}healthz") == {"status": "ok"}
        assert registry.stop()[0] == 0


class SilenceTests(TestCase):
    """The seconds as they are shipped, on a clock."""

    timeout = 60

    async def test_a_watch_that_hears_nothing_for_15_s_has_ended_and_a_heartbeat_is_enough(self):
        server = FakeServer(lambda request: request.write(b'{"result": {"created": true}}\n'))
        server.start(reactor)
        self.addCleanup(server.stop)
        clocked = ClockedReactor(reactor)
        gateway = Gateway(clocked, Cluster((server.url,)))
        self.addCleanup(gateway.close)
        results, waiting = [], []

        def heard(result):
            results.append(result)
            waiting.pop().callback(None)

        def one_more():
            waiting.append(Deferred())
            return waiting[0]

        first = one_more()
        watching = Deferred.fromCoroutine(gateway.watch({"key": encoded("a")}, heard))
        await first
        for _ in range(2):
            clocked.clock.advance(14.9)
            self.assertNoResult(watching)
            more = one_more()
            server.requests[0].write(b'{"result": {"events": []}}\n')
            await more
        clocked.clock.advance(14.9)
        self.assertNoResult(watching)
        clocked.clock.advance(0.2)
        failure = self.failureResultOf(watching, WatchEnded)
        assert "nothing was heard for 15 s" in failure.getErrorMessage()
        assert len(results) == 3


@needs_etcd
class AuthTests(TestCase):
    timeout = 60

    def setUp(self):
        self.etcd = Etcd()
        self.etcd.start()
        self.addCleanup(self.etcd.close)
        for path, message in (
            ("user/add", {"name": "root", "password": "secret"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("enable", {}),
        ):
            self.etcd.call(f"/v3/auth/{path}", message)

    def gateway(self, *who):
        gateway = Gateway(reactor, Cluster((self.etcd.url,), *who))
        self.addCleanup(gateway.close)
        return gateway

    async def test_a_user_is_let_in_and_its_token_is_renewed(self):
        gateway = self.gateway("root", "secret")
        put = {"key": encoded("a"), "value": encoded("b")}
        assert "header" in await gateway.call("/v3/kv/put", put)
        gateway._token = "old.1"
        assert "header" in await gateway.call("/v3/kv/put", put)

    async def test_others_are_told_why_not(self):
        with pytest.raises(Refused, match="user name is empty"):
            await self.gateway().call("/v3/kv/range", {"key": encoded("a")})
        with pytest.raises(Refused, match="password"):
            await self.gateway("root", "wrong").call("/v3/kv/range", {"key": encoded("a")})


def certificates(folder):
    """An authority, and what it certifies for 127.0.0.1."""
    for name, extra in (
        ("ca", ()),
        ("own", ("-CA", folder / "ca.pem", "-CAkey", folder / "ca.key")),
    ):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", *extra),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )


@needs_etcd
class TLSTests(TestCase):
    timeout = 60

    async def test_both_ends_prove_themselves(self):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        certificates(folder)
        ca, own, key = (str(folder / name) for name in ("ca.pem", "own.pem", "own.key"))
        etcd = Etcd(
            *("--cert-file", own, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth"),
            scheme="https",
        )
        etcd.start(wait=False)
        self.addCleanup(etcd.close)
        asked = {"key": encoded("a")}
        gateway = self.gateway(etcd, ClientTLS(ca, own, key))
        end = time.monotonic() + 20
        while True:
            try:
                assert "header" in await gateway.call("/v3/kv/range", asked)
                break
            except Unavailable:
                assert time.monotonic() < end
        for policy in (ClientTLS(ca, None, None), ClientTLS(None, own, key)):
            with pytest.raises(Unavailable):
                await self.gateway(etcd, policy).call("/v3/kv/range", asked)

    def gateway(self, etcd, policy):
        gateway = Gateway(reactor, Cluster((etcd.url,), policy=policy))
        self.addCleanup(gateway.close)
        return gateway

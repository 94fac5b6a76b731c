# SPDX-License-Identifier: MIT
import threading
from ipaddress import IPv4Interface

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from smls import mdns
from smls.mdns import Advertisement, Browser, find, nearest

LOOPBACK = ["127.0.0.1"]
PORT = 40123


class NetworkTests(TestCase):
    """Against the real zeroconf, over loopback."""

    timeout = 30

    async def published(self, port=PORT):
        advertisement = Advertisement(reactor, port, LOOPBACK)
        await advertisement.start()
        self.addCleanup(advertisement.stop)
        return advertisement

    async def test_a_published_registry_is_found(self):
        await self.published()
        found = await deferToThread(find, 10, LOOPBACK)
        assert f"http://127.0.0.1:{PORT}" in found

    async def test_a_browser_hears_of_registries_that_come_and_go(self):
        found, lost = Deferred(), Deferred()
        url = f"http://127.0.0.1:{PORT + 1}"
        browser = Browser(
            reactor,
            lambda heard: heard == url and found.callback(threading.current_thread()),
            lambda gone: gone == url and lost.callback(threading.current_thread()),
            LOOPBACK,
        )
        await browser.start()
        self.addCleanup(browser.stop)
        advertisement = await self.published(PORT + 1)
        assert await found is threading.main_thread()
        await advertisement.stop()
        assert await lost is threading.main_thread()

    async def test_stopping_ends_the_threads(self):
        before = set(threading.enumerate())
        advertisement = Advertisement(reactor, PORT + 2, LOOPBACK)
        browser = Browser(reactor, lambda url: None, lambda url: None, LOOPBACK)
        await advertisement.start()
        await browser.start()
        await advertisement.stop()
        await browser.stop()
        pool = reactor.getThreadPool().threads
        assert not [left for left in set(threading.enumerate()) - before if left not in pool]

    async def test_stopping_at_once_leaves_nothing(self):
        advertisement = Advertisement(reactor, PORT + 3, LOOPBACK)
        started = advertisement.start()
        await advertisement.stop()
        await started
        assert advertisement._zeroconf is None


@pytest.mark.parametrize("step", ["start", "stop"])
def test_a_machine_without_multicast_is_no_failure(monkeypatch, step):
    def deaf(interfaces):
        raise OSError("no multicast here")

    monkeypatch.setattr(mdns, "_open", deaf)
    case = SynchronousTestCase()
    for service in (
        Advertisement(InlineReactor(), PORT, LOOPBACK),
        Browser(InlineReactor(), print, print, LOOPBACK),
    ):
        case.successResultOf(getattr(service, step)())


class InlineReactor:
    """Runs the threads' work at once, in the calling thread."""

    def getThreadPool(self):
        return InlinePool()

    def callFromThread(self, function, *args):
        function(*args)


class InlinePool(ThreadPool):
    def callInThreadWithCallback(self, on_result, function, *args, **kwargs):
        try:
            result = function(*args, **kwargs)
        except Exception:
            from twisted.python.failure import Failure

            on_result(False, Failure())
        else:
            on_result(True, result)


def test_a_browser_tells_news_alone():
    told = []
    browser = Browser(
        InlineReactor(),
        lambda url: told.append(f"+{url}"),
        lambda url: told.append(f"-{url}"),
        LOOPBACK,
    )
    browser._heard("one", "http://192.0.2.1:1")
    browser._heard("one", "http://192.0.2.1:1")
    browser._heard("one", "http://192.0.2.2:1")
    browser._gone("unknown")
    browser._gone("one")
    assert told == [
        "+http://192.0.2.1:1",
        "-http://192.0.2.1:1",
        "+http://192.0.2.2:1",
        "-http://192.0.2.2:1",
    ]


HERE = [
    IPv4Interface("127.0.0.1/8"),
    IPv4Interface("172.17.0.1/16"),
    IPv4Interface("192.168.1.7/24"),
]


@pytest.mark.parametrize(
    ("addresses", "chosen"),
    [
        (["172.17.0.1", "192.168.1.5"], "192.168.1.5"),
        (["10.0.0.1", "192.168.1.7"], "192.168.1.7"),
        (["10.0.0.1", "10.1.0.1"], "10.0.0.1"),
        (["fe80::1", "10.0.0.1"], "10.0.0.1"),
        (["fe80::1"], None),
        ([], None),
    ],
)
def test_the_nearest_address_is_taken(addresses, chosen):
    assert nearest(addresses, HERE) == chosen

# SPDX-License-Identifier: MIT
"""Publish a registry on the local network, or find one: multicast DNS (RFC 6762, RFC 6763).

zeroconf is imported on first use, and runs in threads: starting and stopping it blocks for up to
some seconds. ``interfaces`` limits it to the interfaces with these addresses, for tests and for
machines with many; all of them where it is ``None``.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.wire import join_address

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

TYPE = "_smls-registry._tcp.local."

GRACE_SECONDS = 0.3
"""After the first registry was found, others on the same network answer within this."""

RESOLVE_SECONDS = 1.0
"""How long a registry that was heard of is asked for its address: two rounds of questions."""


class Advertisement:
    """Publishes the registry on ``port`` of this machine from ``start`` to ``stop``.

    A network without multicast is logged and does no other harm. The Deferreds of both calls
    never fail.
    """

    log = Logger()

    def __init__(self, reactor: Any, port: int, interfaces: Sequence[str] | None = None) -> None:
        self._worker = _Worker(reactor)
        self._port = port
        self._interfaces = interfaces
        self._zeroconf: Zeroconf | None = None

    def start(self) -> Deferred[None]:
        """Fires when the registry is published, after about a second."""
        return self._worker.do(self._publish).addErrback(self._unpublished)

    def stop(self) -> Deferred[None]:
        """Fires when the registry's goodbye is sent."""
        return self._worker.do(self._withdraw).addErrback(self._unpublished)

    def _publish(self) -> None:
        self._zeroconf = _open(self._interfaces)
        # Another machine may have this one's name; it is the address that counts.
        service = _service(self._port, self._interfaces)
        self._zeroconf.register_service(service, allow_name_change=True)

    def _withdraw(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            zeroconf.close()

    def _unpublished(self, failure: Failure) -> None:
        self.log.warn(
            "multicast DNS does not work here, so nodes need --registry: {reason}",
            reason=failure.getErrorMessage(),
        )


class Browser:
    """Tells which registries come and go, from ``start`` to ``stop``.

    ``on_found(url)`` and ``on_lost(url)`` are called on the reactor's thread, and not after
    ``stop``. The Deferreds of both calls never fail.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        on_found: Callable[[str], object],
        on_lost: Callable[[str], object],
        interfaces: Sequence[str] | None = None,
    ) -> None:
        self._worker = _Worker(reactor)
        self._reactor = reactor
        self._on_found = on_found
        self._on_lost = on_lost
        self._interfaces = interfaces
        self._known: dict[str, str] = {}
        self._stopped = False
        self._zeroconf: Zeroconf | None = None

    def start(self) -> Deferred[None]:
        """Fires when it listens, after about two seconds."""
        return self._worker.do(self._open).addErrback(self._deaf)

    def stop(self) -> Deferred[None]:
        self._stopped = True
        return self._worker.do(self._close).addErrback(self._deaf)

    def _open(self) -> None:
        self._zeroconf = _open(self._interfaces)
        _browse(self._zeroconf, self._heard, self._gone)

    def _close(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            zeroconf.close()

    def _heard(self, name: str, url: str) -> None:
        self._reactor.callFromThread(self._found, name, url)

    def _gone(self, name: str) -> None:
        self._reactor.callFromThread(self._lost, name)

    def _found(self, name: str, url: str) -> None:
        old = self._known.get(name)
        if self._stopped or old == url:
            return
        self._known[name] = url
        if old is not None:
            self._on_lost(old)
        self._on_found(url)

    def _lost(self, name: str) -> None:
        url = self._known.pop(name, None)
        if url is not None and not self._stopped:
            self._on_lost(url)

    def _deaf(self, failure: Failure) -> None:
        self.log.warn(
            "multicast DNS does not work here, so no registry is found by it: {reason}",
            reason=failure.getErrorMessage(),
        )


def find(timeout_seconds: float, interfaces: Sequence[str] | None = None) -> list[str]:
    """The registries on the local network, such as ``["http://192.168.1.5:12480"]``.

    Blocks the calling thread until ``GRACE_SECONDS`` after the first was found, and for
    ``timeout_seconds`` (besides zeroconf's own start and stop) where there is none.
    """
    found: dict[str, str] = {}
    first = threading.Event()

    def heard(name: str, url: str) -> None:
        found[name] = url
        first.set()

    zeroconf = _open(interfaces)
    try:
        _browse(zeroconf, heard, lambda name: None)
        if first.wait(timeout_seconds):
            time.sleep(GRACE_SECONDS)
    finally:
        zeroconf.close()
    return sorted(set(found.values()))


class _Worker:
    """Runs blocking steps one after the other on the reactor's threads."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._lock = DeferredLock()

    def do(self, step: Callable[[], None]) -> Deferred[None]:
        return self._lock.run(deferToThreadPool, self._reactor, self._reactor.getThreadPool(), step)


def _open(interfaces: Sequence[str] | None) -> Zeroconf:
    from zeroconf import InterfaceChoice, Zeroconf

    # In a thread without an event loop, zeroconf makes a loop and a thread of its own.
    return Zeroconf(interfaces=InterfaceChoice.All if interfaces is None else list(interfaces))


def _service(port: int, interfaces: Sequence[str] | None) -> ServiceInfo:
    from zeroconf import ServiceInfo

    host = socket.gethostname().replace(".", "-")[:40]
    label = f"{host}-{port}"
    addresses = interfaces or _reachable(_own_addresses())
    return ServiceInfo(
        TYPE,
        f"{label}.{TYPE}",
        port=port,
        parsed_addresses=list(addresses),
        server=f"smls-{label}.local.",
    )


def _browse(
    zeroconf: Zeroconf, heard: Callable[[str, str], None], gone: Callable[[str], None]
) -> None:
    from zeroconf import ServiceListener

    class Listener(ServiceListener):
        """Called on the browser's own thread, which may wait for an answer."""

        def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            info = zc.get_service_info(type_, name, int(RESOLVE_SECONDS * 1000))
            if info is not None and info.port:
                address = nearest(info.parsed_addresses(), _own_addresses())
                if address is not None:
                    heard(name, f"http://{join_address(address, info.port)}")

        update_service = add_service

        def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            gone(name)

    # Closing zeroconf ends the threads of listeners that were added in this way alone.
    zeroconf.add_service_listener(TYPE, Listener())


def nearest(addresses: Sequence[str], own: Sequence[IPv4Interface]) -> str | None:
    """Which of a registry's ``addresses`` to use from a machine that has the addresses ``own``.

    One on a network of this machine's, before one that is this machine's own (a container
    bridge has the same address on every machine), before any other; IPv4 alone.

    >>> here = [IPv4Interface("172.17.0.1/16"), IPv4Interface("192.168.1.7/24")]
    >>> nearest(["172.17.0.1", "192.168.1.5"], here)
    '192.168.1.5'
    """

    def distance(address: IPv4Address) -> int:
        if any(address == mine.ip for mine in own):
            return 1
        return 0 if any(address in mine.network for mine in own) else 2

    candidates = [IPv4Address(address) for address in addresses if ":" not in address]
    return str(min(candidates, key=distance)) if candidates else None


def _own_addresses() -> list[IPv4Interface]:
    import ifaddr

    return [
        IPv4Interface(f"{address.ip}/{address.network_prefix}")
        for adapter in ifaddr.get_adapters()
        for address in adapter.ips
        if isinstance(address.ip, str)
    ]


def _reachable(own: Sequence[IPv4Interface]) -> list[str]:
    outward = [str(mine.ip) for mine in own if not mine.ip.is_loopback]
    return outward or ["127.0.0.1"]

# SPDX-License-Identifier: MIT
"""The registry as a Twisted service: listens, sweeps, publishes itself, and closes all of it."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import Any, Protocol, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from smls.mdns import Advertisement
from smls.program import listen
from smls.site import LimitedSite
from smls.wire import join_address

SWEEP_SECONDS = 1.0
"""Each request sweeps too: this is for the log of a registry that nobody asks."""


class App(Protocol):
    """What is served: it has leases that run out, and streams that end."""

    def site(self) -> LimitedSite: ...

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    def sweep(self) -> None: ...


class RegistryService(Service):
    """Serves ``app`` on ``port`` of ``host``, all addresses where that is empty.

    :raises PortTaken: by ``startService``, where the port cannot be had.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        app: App,
        *,
        port: int,
        host: str = "",
        mdns: bool = True,
    ) -> None:
        self._reactor = reactor
        self._app = app
        self._site = app.site()
        self._port = port
        self._host = host
        self._mdns = mdns
        self._listening: IListeningPort | None = None
        self._advertisement: Advertisement | None = None
        self._sweeps = LoopingCall(self._sweep)
        self._sweeps.clock = reactor

    def startService(self) -> None:
        self._listening = listen(self._reactor, self._port, self._site, self._host)
        self._port = cast(IPv4Address, self._listening.getHost()).port
        super().startService()  # type: ignore[no-untyped-call]
        self._app.start()
        self._sweeps.start(SWEEP_SECONDS, now=False)
        if self._mdns and not _is_loopback(self._host):
            interfaces = None if _is_wildcard(self._host) else [self._host]
            self._advertisement = Advertisement(self._reactor, self._port, interfaces)
            self._advertisement.start()
        # Not before signals are handled: who reads the line may stop the program at once.
        self._reactor.callWhenRunning(self._ready)

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._sweeps.running:
            self._sweeps.stop()
        closing: list[Deferred[Any]] = []
        if self._advertisement is not None:
            closing.append(self._advertisement.stop())
            self._advertisement = None
        if self._listening is not None:
            closing.append(maybeDeferred(self._listening.stopListening))
            # Before the connections, or it would seem that the nodes close theirs.
            closing.append(Deferred.fromCoroutine(self._app.stop()))
            closing.append(self._site.close_connections())
            self._listening = None
        return gatherResults(closing, consumeErrors=True)

    @property
    def url(self) -> str:
        """Where this machine reaches the registry, once it listens."""
        host = "127.0.0.1" if _is_wildcard(self._host) else self._host
        return f"http://{join_address(host, self._port)}/"

    def _ready(self) -> None:
        if not self.running:
            return
        where = self._host if not _is_wildcard(self._host) else "all addresses"
        print(f"smls-registry: ready at {self.url} (listening on {where})")
        print(
            "smls-registry: try  curl -L -H 'Expect: 100-continue' -F data=@image.jpg "
            f"{self.url}classify"
        )
        sys.stdout.flush()

    def _sweep(self) -> None:
        try:
            self._app.sweep()
        except Exception:
            self.log.failure("sweeping expired leases failed; the next sweep is tried")


def _is_wildcard(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

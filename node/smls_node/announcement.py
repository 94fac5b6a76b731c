# SPDX-License-Identifier: MIT
"""Keeps the node known: at the registries that were named, or at those found on the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import inlineCallbacks
from twisted.web.client import Agent, HTTPConnectionPool

from smls.address import Advertise
from smls.kept import close_kept
from smls.lease import Announcer
from smls.mdns import Browser
from smls.wire import NodeRecord

CONNECT_SECONDS = 1.0
"""A registry that has not accepted a connection by then is asked again: it may be starting."""


class Announcement:
    """From ``start`` to ``withdraw``; with ``mdns``, registries are also looked for."""

    def __init__(
        self,
        reactor: Any,
        registries: Iterable[str],
        advertise: Advertise,
        record: Callable[[str], NodeRecord],
        *,
        mdns: bool,
    ) -> None:
        self._pool = HTTPConnectionPool(reactor)
        self._announcer = Announcer(
            reactor,
            HTTPClient(Agent(reactor, connectTimeout=CONNECT_SECONDS, pool=self._pool)),
            registries,
            record,
            advertise,
            Random(),
        )
        announcer = self._announcer
        self._browser = Browser(reactor, announcer.add, announcer.remove) if mdns else None

    def start(self) -> None:
        """Announces the node, and goes on doing so."""
        self._announcer.start()
        if self._browser is not None:
            self._browser.start()

    def update(self) -> None:
        """Announces the node at once, for its models have changed."""
        self._announcer.update()

    @inlineCallbacks
    def withdraw(self) -> Any:
        """Fires when each registry has been told that the node is gone, or was too slow."""
        if self._browser is not None:
            yield self._browser.stop()
        yield self._announcer.withdraw()
        yield close_kept(self._pool)

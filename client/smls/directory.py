# SPDX-License-Identifier: MIT
"""The live nodes, as a registry tells them or as the user does.

The laws of the list that a registry tells:

- The first call waits for it; later ones take it as it is, and never wait for a refresh, unless
  it has no node for their model.
- It holds the nodes of all models, so that one list serves every call.
- It is refreshed every ``REFRESH_SECONDS`` while calls are made, and no longer
  ``WATCH_SECONDS`` after the last of them.
- The registry that answered last is asked first. While none answers, the last list serves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import (
    BadRecord,
    BadRequest,
    NodeUnreachable,
    NoLiveNodes,
    RegistryUnavailable,
)
from smls.transport import Transport
from smls.wire import Listing, NodeRecord, listing_from_json, registry_url, split_address

REFRESH_SECONDS = 2.0

WATCH_SECONDS = 30.0
"""An open client that nobody uses stops asking the registry."""

LOOKUP_SECONDS = 2.0
"""How long one registry may take before the next is asked."""

FORMER_SECONDS = 10.0
"""After a registry's restart its nodes have to announce themselves again: they get this long."""


class Directory(Protocol):
    """Knows the live nodes."""

    async def nodes(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        """The nodes that serve ``model``: one at least.

        :raises RegistryUnavailable: where no list was ever had.
        :raises NoLiveNodes: where no node serves the model.
        """

    async def listing(self, model: str | None) -> tuple[NodeRecord, ...]:
        """The nodes that serve ``model`` as of now; the last known while no registry answers."""

    def refresh(self) -> Deferred[None]:
        """Asks for a new list; fires when there is one or none can be had, and never fails."""

    def close(self) -> None:
        """Asks no more."""


class FixedNodes:
    """The nodes that the user named; which models they serve is not known."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._nodes = tuple(
            NodeRecord(id=address, address=address) for address in map(node_address, addresses)
        )

    async def nodes(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        return self._nodes

    async def listing(self, model: str | None) -> tuple[NodeRecord, ...]:
        return self._nodes

    def refresh(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> None:
        pass


class RegistryDirectory:
    """The nodes that one of several registries lists."""

    _log = Logger()

    def __init__(
        self, transport: Transport, clock: IReactorTime, registries: Iterable[str]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._registries = [registry_url(registry) for registry in registries]
        self._reasons: dict[str, str] = {}
        self._list: Listing | None = None
        self._former: Listing | None = None
        self._former_until = 0.0
        self._served: dict[tuple[object, ...], tuple[NodeRecord, ...]] = {}
        self._listed_at = 0.0
        self._used_at = 0.0
        self._timer: IDelayedCall | None = None
        self._lookup: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._closed = False

    async def nodes(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        self._used()
        found = self._known(model, version, label)
        if not found:
            await self.refresh()
            found = self._known(model, version, label)
        if self._list is None:
            raise RegistryUnavailable(f"no registry answered: {self._told()}")
        if not found:
            wanted = {"model": model, "version": version, "label": label}
            named = ", ".join(f"{name} {value!r}" for name, value in wanted.items() if value)
            raise NoLiveNodes(
                f"no live node {f'serves {named} ' if named else ''}"
                f"at {', '.join(self._registries)}"
            )
        return found

    async def listing(self, model: str | None) -> tuple[NodeRecord, ...]:
        self._used()
        await self.refresh()
        if self._list is None:
            raise RegistryUnavailable(f"no registry answered: {self._told()}")
        return _serving(self._list, model)

    def refresh(self) -> Deferred[None]:
        if self._closed:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if self._lookup is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            lookup = self._lookup = Deferred.fromCoroutine(self._look_up())
            lookup.addErrback(self._stopped)
            lookup.addCallback(lambda _: self._looked_up())
        return waiting

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lookup is not None:
            self._lookup.cancel()

    def _used(self) -> None:
        now = self._used_at = self._clock.seconds()
        if self._lookup is None and self._timer is None and self._list is not None:
            age = now - self._listed_at
            self._timer = self._clock.callLater(max(0.0, REFRESH_SECONDS - age), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.refresh()

    def _looked_up(self) -> None:
        self._lookup = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        idle = self._clock.seconds() - self._used_at > WATCH_SECONDS
        if not (idle or self._closed or self._lookup or self._timer or self._list is None):
            self._timer = self._clock.callLater(REFRESH_SECONDS, self._tick)

    def _stopped(self, failure: Failure) -> None:
        if not (self._closed and isinstance(failure.value, CancelledError)):
            self._log.failure("asking the registries", failure)

    async def _look_up(self) -> None:
        for registry in list(self._registries):
            try:
                self._take(await self._ask(registry))
            except (NodeUnreachable, BadRecord) as error:
                if self._reasons.get(registry) != error.message:
                    self._log.info("registry {url}: {reason}", url=registry, reason=error.message)
                self._reasons[registry] = error.message
            else:
                self._registries.remove(registry)
                self._registries.insert(0, registry)
                self._reasons.pop(registry, None)
                return

    async def _ask(self, registry: str) -> Listing:
        reply = await self._transport.request(
            "GET", f"{registry}/v1/nodes", timeout_seconds=LOOKUP_SECONDS
        )
        if reply.status != 200:
            raise NodeUnreachable(f"answered {reply.status}, wanted the list of nodes")
        try:
            return listing_from_json(json.loads(reply.body))
        except ValueError as error:
            raise NodeUnreachable("answered no JSON, wanted the list of nodes") from error

    def _take(self, listing: Listing) -> None:
        now = self._clock.seconds()
        if self._list is not None and listing.revision < self._list.revision:
            self._former, self._former_until = self._list, now + FORMER_SECONDS
        self._list, self._listed_at = listing, now
        self._served.clear()

    def _known(
        self, model: str | None, version: str | None, label: str | None
    ) -> tuple[NodeRecord, ...]:
        found = self._serving(self._list, model, version, label)
        if not found and self._former is not None and self._clock.seconds() < self._former_until:
            return self._serving(self._former, model, version, label)
        return found

    def _serving(self, listing: Listing | None, *wanted: str | None) -> tuple[NodeRecord, ...]:
        """The same tuple as long as the list is the same."""
        nodes = () if listing is None else listing.nodes
        key = (id(listing), *wanted)
        if key not in self._served:
            self._served[key] = tuple(node for node in nodes if node.serves(*wanted))
        return self._served[key]

    def _told(self) -> str:
        return "; ".join(f"{url}: {self._reasons.get(url, '?')}" for url in self._registries)


def node_address(text: str) -> str:
    """``HOST:PORT``; an ``http://`` before it and a slash behind it are taken off.

    :raises BadRequest: where it is no such address, or asks for https.
    """
    if text.startswith("https://"):
        raise BadRequest(f"https is not spoken yet: got {text!r}, wanted HOST:PORT")
    address = text.removeprefix("http://").rstrip("/")
    try:
        split_address(address)
    except BadRecord:
        raise BadRequest(f"node: got {text!r}, wanted HOST:PORT") from None
    return address


def _serving(listing: Listing, model: str | None) -> tuple[NodeRecord, ...]:
    return tuple(node for node in listing.nodes if node.serves(model))

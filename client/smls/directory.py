# SPDX-License-Identifier: MIT
"""The live nodes, as registries tell them or as the user does.

The laws of the list that registries tell:

- It is watched from the first call until the client is closed, at each registry, all models in
  one stream. An idle stream costs a registry a comment each 5 s, and the next call, however late,
  finds the news there.
- The first call waits for the first list; later ones take it as it is, and wait only where it has
  no node for them and a registry is away, which is then tried at once, or has just started, which
  then has ``SETTLING_SECONDS`` to hear from its nodes.
- While no registry is live the last list serves, and a client that starts then takes the one that
  is on disk. How several lists become one is ``smls.merged``'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import BadRecord, BadRequest, NoLiveNodes, RegistryUnavailable
from smls.merged import Merged
from smls.remembered import Remembered
from smls.transport import Transport
from smls.watch import Watch
from smls.wire import NodeRecord, registry_url, split_address


class Directory(Protocol):
    """Knows the live nodes.

    Both lists are the same object as before for as long as they would be equal ones, so that
    what follows from one may be kept with it. Suspect nodes are in them.
    """

    async def nodes(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        """The nodes that serve ``model``, in that version and under that label: one at least.

        :raises RegistryUnavailable: where no list was ever had.
        :raises NoLiveNodes: where no node serves it.
        """

    async def listing(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        """The same, and maybe none."""

    def refresh(self) -> Deferred[None]:
        """Tries registries that are away; fires when each was heard or failed, and never fails."""

    def close(self) -> Deferred[None]:
        """Asks no more; fires when nothing is left to do, and never fails."""


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

    async def listing(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        return self._nodes

    def refresh(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


class RegistryDirectory:
    """The nodes that several registries list; ``remembered`` keeps them on disk, if it is there."""

    _log = Logger()

    def __init__(
        self,
        transport: Transport,
        reactor: Any,
        registries: Iterable[str],
        remembered: Remembered | None = None,
        random: Random | None = None,
    ) -> None:
        self._transport = transport
        self._reactor = reactor
        self._registries = tuple(dict.fromkeys(map(registry_url, registries)))
        self._remembered = remembered
        self._random = random or Random()
        self._merged = Merged(self._registries)
        self._watches: tuple[Watch, ...] = ()
        self._opening: Deferred[None] | None = None
        self._listed = False
        self._waiting: list[Deferred[None]] = []
        self._closed = False

    async def nodes(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        if not self._listed:
            await self._first_list()
        found = self._known(model, version, label)
        if not found:
            await self.refresh()
            await self._complete(lambda: bool(self._known(model, version, label)))
            found = self._known(model, version, label)
        if found:
            return found
        self._check_told()
        raise NoLiveNodes(
            f"no live node {_wish(model, version, label)}at {', '.join(self._registries)}"
        )

    async def listing(
        self, model: str | None, version: str | None = None, label: str | None = None
    ) -> tuple[NodeRecord, ...]:
        if not self._listed:
            await self._first_list()
        self._check_told()
        return self._known(model, version, label)

    def refresh(self) -> Deferred[None]:
        for watch in self._watches:
            watch.hurry()
        return self._until(self._all_settled)

    def close(self) -> Deferred[None]:
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        for watch in self._watches:
            watch.stop()
        self._tell()
        return succeed(None) if self._remembered is None else self._remembered.close()

    async def _first_list(self) -> None:
        if self._opening is None:
            self._opening = Deferred.fromCoroutine(self._open())
            self._opening.addErrback(self._not_opened)
        await self._until(lambda: bool(self._merged.live) or self._all_settled())
        self._listed = True

    async def _complete(self, enough: Callable[[], bool]) -> None:
        """Waits for registries that have just started to hear from their nodes, or ``enough``."""
        complete_at = max((watch.complete_at for watch in self._watches), default=0.0)
        seconds = complete_at - self._reactor.seconds()
        if seconds <= 0:
            return
        timer = self._reactor.callLater(seconds, self._tell)
        try:
            await self._until(lambda: enough() or not timer.active())
        finally:
            if timer.active():
                timer.cancel()

    async def _open(self) -> None:
        if self._remembered is not None:
            self._merged = Merged(self._registries, await self._remembered.load())
        self._watches = tuple(
            Watch(self._transport, self._reactor, self._random, url, self._merged, self._changed)
            for url in self._registries
        )
        for watch in self._watches:
            watch.start()

    def _not_opened(self, failure: Failure) -> None:
        if not (self._closed and failure.check(CancelledError)):
            self._log.failure("watching the registries", failure)

    def _all_settled(self) -> bool:
        return bool(self._watches) and all(watch.settled for watch in self._watches)

    def _changed(self) -> None:
        if self._remembered is not None and self._merged.live:
            self._remembered.save(self._merged.told)
        self._tell()

    def _until(self, done: Callable[[], bool]) -> Deferred[None]:
        """Fires when ``done()``, which is asked after each change, or when this is closed."""
        if self._closed or done():
            return succeed(None)

        async def wait() -> None:
            while not (self._closed or done()):
                waiting: Deferred[None] = Deferred(self._waiting.remove)
                self._waiting.append(waiting)
                await waiting

        return Deferred.fromCoroutine(wait())

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _known(
        self, model: str | None, version: str | None, label: str | None
    ) -> tuple[NodeRecord, ...]:
        return self._merged.nodes(model, version, label, now=self._reactor.seconds())

    def _check_told(self) -> None:
        if not self._merged.told:
            reasons = (
                f"{url}: {watch.reason}"
                for url, watch in zip(self._registries, self._watches, strict=False)
            )
            raise RegistryUnavailable(f"no registry answered: {'; '.join(reasons)}")


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


def _wish(model: str | None, version: str | None, label: str | None) -> str:
    named = {"model": model, "version": version, "label": label}
    wanted = [f"the {name} {value!r}" for name, value in named.items() if value is not None]
    return f"serves {', '.join(wanted)} " if wanted else ""

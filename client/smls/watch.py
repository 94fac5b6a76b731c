# SPDX-License-Identifier: MIT
"""Watches one registry: opens its stream, hears its news, opens it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smls.errors import BadRecord, NodeUnreachable
from smls.events import Event, EventParser
from smls.merged import Merged, Told
from smls.stream import Retries, drop, read_stream
from smls.transport import Transport
from smls.wire import SETTLING_SECONDS, delta_from_json, listing_from_json

OPEN_SECONDS = 2.0
"""How long a registry may take for the beginning of its answer, and of its list after that."""

HURRY_SECONDS = 0.25
"""A registry that failed so lately is not asked again, however many calls would like to."""


class Watch:
    """Tells ``merged`` what the registry at ``url`` says, from ``start`` to ``stop``.

    ``told`` is called after each change. ``settled`` tells whether the registry is heard, or has
    failed and is not being tried; ``reason`` is why it is not live, where it is not. Until
    ``complete_at`` nodes that live may be missing: the registry has just started.
    """

    _log = Logger()

    def __init__(
        self,
        transport: Transport,
        clock: IReactorTime,
        random: Random,
        url: str,
        merged: Merged,
        told: Callable[[], None],
    ) -> None:
        self.settled = False
        self.reason = ""
        self.complete_at = 0.0
        self._transport = transport
        self._clock = clock
        self._url = url
        self._merged = merged
        self._told = told
        self._retries = Retries(random)
        self._parser = EventParser()
        self._resumes = False
        self._failed_at = 0.0
        self._nap: Deferred[None] | None = None
        self._loop: Deferred[None] | None = None

    def start(self) -> None:
        self._loop = Deferred.fromCoroutine(self._keep())
        self._loop.addErrback(self._broken)

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()

    def hurry(self) -> None:
        """Tries at once where the registry is away, unless it failed a moment ago."""
        if self._nap is not None and self._clock.seconds() - self._failed_at >= HURRY_SECONDS:
            self._wake()

    async def _keep(self) -> None:
        while True:
            self.settled = False
            opened_at = self._clock.seconds()
            try:
                self.reason = await self._watch()
            except (NodeUnreachable, BadRecord) as error:
                self._explain(error.message)
            now = self._failed_at = self._clock.seconds()
            self.settled = True
            delay = self._retries.ended(now - opened_at if self._is_live else 0.0)
            self._merged.lost(self._url, now)
            self._told()
            if delay:
                await self._sleep(delay)

    async def _watch(self) -> str:
        """Fires with the reason why the stream is over."""
        last = self._merged.told.get(self._url)
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last.event_id
        response = await self._transport.open(
            f"{self._url}/v1/watch", headers, timeout_seconds=OPEN_SECONDS
        )
        if response.code != 200:
            drop(response)
            if response.code == 404:
                raise NodeUnreachable(
                    "knows no /v1/watch: it is no registry, or older than this client; update it"
                )
            raise NodeUnreachable(f"answered {response.code}, wanted the list of nodes")
        self._parser = EventParser()
        self._resumes = last is not None
        return await read_stream(response, self._clock, self._heard, OPEN_SECONDS)

    @property
    def _is_live(self) -> bool:
        return self._url in self._merged.live

    def _heard(self, piece: bytes) -> None:
        events = self._parser.feed(piece)
        for event in events:
            self._take(event)
        if self._resumes and self._parser.comments and not self._is_live:
            self._merged.resumed(self._url, self._clock.seconds())
        elif not events:
            return
        if self._is_live:
            if self.reason:
                self._log.info("registry {url} is back", url=self._url)
            self.reason = ""
            self.settled = True
            self._told()

    def _take(self, event: Event) -> None:
        now = self._clock.seconds()
        if event.name == "snapshot":
            listing = listing_from_json(_parsed(event))
            self.complete_at = now + SETTLING_SECONDS if listing.settling else now
            self._merged.snapshot(self._url, Told.of(_history(event), listing), now)
        elif event.name == "delta":
            delta = delta_from_json(_parsed(event))
            self._merged.delta(self._url, _history(event), delta, now)

    def _explain(self, reason: str) -> None:
        if reason != self.reason:
            self._log.info("registry {url}: {reason}", url=self._url, reason=reason)
        self.reason = reason

    async def _sleep(self, seconds: float) -> None:
        nap = self._nap = Deferred()
        timer = self._clock.callLater(seconds, self._wake)
        try:
            await nap
        finally:
            self._nap = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        if self._nap is not None:
            nap, self._nap = self._nap, None
            nap.callback(None)

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("watching the registry {url} broke", failure, url=self._url)


def _parsed(event: Event) -> object:
    try:
        parsed: object = json.loads(event.data)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{event.name}: got {event.data[:80]!r}, wanted JSON") from error
    return parsed


def _history(event: Event) -> str:
    """The part of an event's id before its revision, which the data has, too."""
    history, _, revision = event.id.rpartition(":")
    if not history or not revision.isdecimal():
        raise BadRecord(f"id: got {event.id[:80]!r}, wanted HISTORY:REVISION")
    return history
